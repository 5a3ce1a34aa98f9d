//! What chat costs, next to the least that it can cost: every workload runs against the release
//! server and against a relay that only copies bytes (`floor.rs`), in turns, so that whatever else
//! the machine does hits both. `make bench` prints a table of medians and draws the ratios.

mod floor;
mod load;
mod report;
mod servers;
mod workloads;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use chinwag::args;
use clap::Parser;
use clap::builder::PossibleValuesParser;

use servers::Side;
use workloads::{WORKLOADS, Workload};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compares the server with a relay that only copies bytes.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench chat --")]
struct Options {
    /// How often each workload runs on each side; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Run this workload only; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(WORKLOADS.map(|workload| workload.name)))]
    only: Vec<String>,
    /// List the workloads
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`, and not by `cargo test`, which must not measure
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // The relay is this same program.
    if std::env::args().nth(1).as_deref() == Some(floor::ARGUMENT) {
        return finish(floor::run());
    }
    let options: Options = match args::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.list {
        WORKLOADS.iter().for_each(|workload| println!("{:<13} {}", workload.name, workload.about));
        return ExitCode::SUCCESS;
    }
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    finish(compare(&options))
}

fn finish(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn compare(options: &Options) -> Result<()> {
    ctrlc::set_handler(|| load::INTERRUPTED.store(true, Ordering::Relaxed))?;
    let is_wanted = |workload: &&Workload| options.only.is_empty() || options.only.iter().any(|n| n == workload.name);
    let mut figures: Vec<_> =
        WORKLOADS.iter().filter(is_wanted).map(|workload| (workload, report::Rounds::default())).collect();
    for round in 1..=options.rounds {
        for (workload, rounds) in &mut figures {
            eprintln!("round {round} of {}: {}", options.rounds, workload.name);
            // Neither side is always the one that comes second.
            let first = if round % 2 == 1 { Side::Yardstick } else { Side::Chinwag };
            for side in [first, first.other()] {
                let measured =
                    (workload.run)(side).map_err(|error| format!("{} ({side:?}): {error}", workload.name))?;
                rounds.add(side, measured);
            }
        }
    }
    let lines = report::lines(&figures);
    println!("{}", report::table(&lines, options.rounds));
    // Beside the programs that were built for this run.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&folder)?;
    let picture = folder.join("chinwag.svg");
    std::fs::write(&picture, report::svg(&lines))?;
    eprintln!("drawn in {}", picture.display());
    Ok(())
}
