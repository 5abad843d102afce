//! The command `piecewise`. Data go to the output, everything else to the error output.

mod args;
mod checking;
mod command;
mod connection;
mod drive;
mod folder;
mod help;
mod home;
mod news;
mod output;
mod progress;
mod report;
mod watching;
mod witness;

use args::{Cli, Command};
use piecewise_server::terminal::{self, manual};
use report::{Failure, code};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli: Cli = terminal::parse(help::command(), |cli: &Cli| cli.output);
    match run(cli.command) {
        Ok(exit) => ExitCode::from(exit),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code.exit)
        }
    }
}

/// Runs a command; its exit code.
fn run(command: Command) -> Result<u8, Failure> {
    let done = match command {
        Command::Join(args) => command::join::run(&args),
        Command::Clone(args) => return command::clone::run(&args),
        Command::Track(args) => command::track::track(&args),
        Command::Untrack(args) => command::untrack::run(&args),
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
        Command::Identity => command::identity::run(),
        Command::Forget(args) => command::identity::forget(&args),
        Command::Completions(args) => {
            manual::completions(&args, help::command());
            Ok(())
        }
        Command::Man(args) => manual::man(&args, help::command()).map_err(|error| {
            Failure::new(format!("the pages cannot be written: {error}"))
                .hint("name a folder that you may write")
                .code(code::FILE)
        }),
    };
    done.map(|()| 0)
}
