//! The engine that others are compared with must itself be right.

use anyhow::Result;
use overside_testkit::{DirectEngine, IMAGE, LIMIT, TempHome, busybox_archive, clients, run, run_fed};

#[test]
fn the_engine_to_compare_with_runs_a_container_of_an_image_made_without_a_registry() -> Result<()> {
    let home = TempHome::new()?;
    let engine = DirectEngine::start()?;
    for cli in clients()? {
        let archive = busybox_archive()?;
        run_fed(&mut engine.docker(&home, &cli, &["load"])?, LIMIT, move |input| {
            std::io::Write::write_all(input, &archive).map_err(Into::into)
        })?
        .success()?;
        let outcome = run(&mut engine.docker(&home, &cli, &["run", "--rm", IMAGE, "echo", "hello"])?, LIMIT)?;
        assert_eq!((outcome.out().as_str(), outcome.code()), ("hello\n", 0), "{outcome:?}");
    }
    Ok(())
}
