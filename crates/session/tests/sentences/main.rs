//! What the product promises of sessions, sentence by sentence, on a simulated clock.

mod activity;
mod life_cycle;
mod polling;
mod prompts;
mod simulation;
mod sleep;
mod usage;
