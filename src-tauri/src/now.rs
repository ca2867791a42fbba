//! The present, as an argument of everything that shows times.

use jiff::Zoned;
use overside_io::clock;
use overside_model::Moment;

/// The present by both clocks.
#[derive(Debug, Clone)]
pub struct Now {
    /// By the clock that never jumps: what a status counts down is measured by it.
    pub moment: Moment,
    /// By the clock on the wall, in the user's time zone.
    pub wall: Zoned,
}

impl Now {
    /// Looks at the clocks.
    pub fn read() -> Self {
        Self { moment: clock::now(), wall: Zoned::now() }
    }
}
