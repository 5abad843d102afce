//! The command `piecewise`. Data go to the output, everything else to the error output.

mod args;
mod checking;
mod command;
mod connection;
mod drive;
mod folder;
mod home;
mod news;
mod output;
mod progress;
mod report;
mod watching;
mod witness;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use piecewise_server::say::check;
use piecewise_server::tell;
use report::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            tell!("error: {}", failure.message);
            if let Some(hint) = failure.hint {
                tell!("hint: {hint}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Runs a command; its exit code.
fn run(command: Command) -> Result<u8, Failure> {
    let done = match command {
        Command::Join(args) => command::join::run(&args),
        Command::Clone(args) => return command::clone::run(&args),
        Command::Track(args) => command::track::track(&args),
        Command::Untrack(args) => command::track::untrack(&args),
        Command::Sync(args) => return command::sync::sync(&args),
        Command::Watch(args) => command::sync::watch(&args),
        Command::Status(args) => return command::status::run(&args),
        Command::Check(args) => return command::check::run(&args),
        Command::Wait(args) => command::wait::run(&args),
        Command::Admin(args) => command::admin::run(&args),
        Command::Conflicts(args) => command::conflicts::run(args),
        Command::Held(args) => command::held::run(args),
        Command::Refused(args) => command::refused::run(args),
        Command::History(args) => command::history::run(&args),
        Command::Log(command) => return command::log::run(command),
        Command::Compare(args) => return command::compare::run(&args),
        Command::Types(args) => command::types::run(&args),
        Command::Identity(args) => command::identity::run(&args),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "piecewise", &mut script);
            check(std::io::stdout().write_all(&script));
            Ok(())
        }
        Command::Man => {
            check(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()));
            Ok(())
        }
    };
    done.map(|()| 0)
}
