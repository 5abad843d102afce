//! Manual: manual pages and completions of a command, for its users and for packages.

use crate::say::check;
use clap::{Args, Command};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder, instead of the first page to the output.
    #[arg(long, value_name = "FOLDER")]
    pub all: Option<PathBuf>,
}

/// Prints a script that completes commands in a shell.
pub fn completions(args: &CompletionsArgs, mut command: Command) {
    let name = command.get_name().to_owned();
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    check(std::io::stdout().write_all(&script));
}

/// Prints the manual page, or writes those of all commands.
pub fn man(args: &ManArgs, command: Command) -> std::io::Result<()> {
    match &args.all {
        None => {
            check(clap_mangen::Man::new(command).render(&mut std::io::stdout()));
            Ok(())
        }
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(command, folder)
        }
    }
}
