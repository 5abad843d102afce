//! Manual: manual pages and completions of a command, for its users and for packages.

use crate::say::check;
use clap::{Args, Command};
use serde_json::json;
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
    print("script", &script);
}

/// Writes a text as it is, or as the one field of its JSON.
fn print(field: &str, text: &[u8]) {
    let value = || json!({ field: String::from_utf8_lossy(text) });
    super::result(value, || check(std::io::stdout().write_all(text)));
}

/// Prints the manual page, or writes those of all commands.
pub fn man(args: &ManArgs, command: Command) -> std::io::Result<()> {
    match &args.all {
        None => {
            let mut page = vec![];
            clap_mangen::Man::new(command).render(&mut page)?;
            print("page", &page);
            Ok(())
        }
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(command, folder)?;
            super::result(|| json!({ "folder": folder.to_string_lossy() }), || {});
            Ok(())
        }
    }
}
