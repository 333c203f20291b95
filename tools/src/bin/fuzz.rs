//! `cargo dev fuzz`: all targets, or some, by a seed or for some minutes.

use std::process::ExitCode;

use clap::Parser;
use ringkeeper_fuzz::{TARGETS, Target, guided, samples, seeded, target};

#[derive(Parser)]
#[command(name = "cargo dev fuzz", about = "Any bytes to all decoders of what strangers and peers send")]
struct Arguments {
    /// Only these targets
    #[arg(long, num_args = 1..)]
    target: Vec<String>,
    /// Let libFuzzer look for new ways, for so long altogether; without it, inputs are drawn by a seed
    #[arg(long)]
    minutes: Option<f64>,
    /// Keep what libFuzzer found in fuzz/corpus
    #[arg(long, requires = "minutes")]
    keep: bool,
    /// Of the inputs that are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many are drawn for each target
    #[arg(long, default_value_t = 30_000)]
    inputs: usize,
    /// Only this one, in hexadecimal digits, to the one target
    #[arg(long, requires = "target")]
    input: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let targets: Vec<&Target> = match &arguments.target[..] {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| target(name)).collect::<Result<_, _>>()?,
    };
    if let Some(digits) = &arguments.input {
        let input = samples::unhex(digits)?;
        return Ok(targets.iter().all(|target| seeded::stands(target, &input)));
    }
    let mut failed = 0;
    if let Some(minutes) = arguments.minutes {
        let program = guided::build()?;
        for target in &targets {
            let seconds = (minutes * 60.0 / targets.len() as f64).max(1.0) as u64;
            failed += usize::from(!guided::run(&program, target, seconds, arguments.keep)?);
        }
    } else {
        for target in &targets {
            match seeded::run(target, arguments.seed, arguments.inputs)? {
                Ok(inputs) => println!("{:<16} {inputs} inputs", target.name),
                Err(failure) => {
                    println!("{:<16} FAILED: {}", target.name, failure.command(target));
                    failed += 1;
                }
            }
        }
    }
    println!("{} passed, {failed} failed", targets.len() - failed);
    Ok(failed == 0)
}
