//! Arguments: everything that can be said to `piecewise`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use piecewise_server::terminal::OutputArgs;
use piecewise_server::terminal::manual::{CompletionsArgs, ManArgs};
use std::path::PathBuf;
use std::time::Duration;

/// Keeps the tables of SQLite files in sync with a server, offline first.
///
/// Your programs go on using the files as before; `watch` or `sync` exchanges what changed.
#[derive(Debug, Parser)]
#[command(name = "piecewise", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, every table in sync · 1 failed, or a table is stopped · 2 wrong arguments · 3 server not reachable · \
4 not granted · 5 file locked, damaged or not writable · 6 `compare` found differences · \
7 the server takes nothing in, or no more · 8 `wait`: the time is up · 9 `check` found rows that it could not heal"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a server with an invite that `piecewise-server invite` printed.
    Join(JoinArgs),
    /// Make a new file with every table of a database that this device may see; or a folder of such files.
    ///
    /// In `piecewise clone 'tenant*' FOLDER` the star stands for any run of characters: the folder gets a file for each database
    /// whose name fits, and goes on to follow such names: `sync FOLDER` and `watch FOLDER` make files for new ones, and
    /// make one again that was removed. Which names a folder follows stands in its `piecewise.toml`.
    Clone(CloneArgs),
    /// Let tables of a file take part in sync.
    Track(TrackArgs),
    /// End that for tables; their rows stay, everything that was added goes.
    ///
    /// Held rows are put back where constraints let them. If some cannot be, they are listed and nothing is done, unless
    /// --leave-held names a file for them.
    Untrack(TablesArgs),
    /// Exchange what changed with the server, once.
    ///
    /// Of a folder, all files that take part are synced over one connection. A file that fails is told of, and the others are synced
    /// all the same; the exit code is then that of the first.
    Sync(SyncArgs),
    /// Stay connected and exchange changes the moment they are made, of one file or all files of a folder.
    Watch(WatchArgs),
    /// Show which tables sync, what waits on either side, and whether the file is caught up; of a folder, a line for each file.
    Status(ReadArgs),
    /// Wait until the file, or a folder's files, and the server hold the same.
    ///
    /// While a `watch` of the file runs, it is the one that talks; else this command does.
    Wait(WaitArgs),
    /// Compare the tables of a file with their documents, row by row, and heal what differs.
    ///
    /// A write that no trigger saw is captured as an edit of now; a row that was left behind is put right from its document; a row
    /// that is held for nothing comes back. `watch` does the same by itself at a bounded pace. The exit code is 9 if a row
    /// could not be healed.
    Check(ReadArgs),
    /// Print a link to a server's status page, for devices with an `admin` grant; it opens once, within five minutes.
    Admin(AdminArgs),
    /// List values and rows that were written at the same time as those that show, or choose among them.
    Conflicts(ConflictsArgs),
    /// List rows that the documents have and the table cannot show, with the cause.
    Held(HeldArgs),
    /// List rows that the server did not take, try them again, or give them up.
    Refused(RefusedArgs),
    /// Show all that was ever done to a row.
    History(HistoryArgs),
    /// Compare tables with the server's, row by row; changes nothing.
    Compare(CompareArgs),
    /// See what this device knows of its servers' signed logs, and check them.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print TypeScript types of the tables in a file, for programs that use the npm package.
    ///
    /// A type for the rows of each table, and `Tables`, which has them by the tables' names. Columns of the primary key are not
    /// null: rows with NULL in their key take no part in sync. In tables that are not STRICT a column's declared type says what it
    /// is meant to hold.
    Types(TypesArgs),
    /// Show this device's key and the servers it has joined.
    Identity,
    /// Forget a server that this device has joined; files keep their rows.
    ///
    /// Files and folders that belong to it do not sync any more, until the server is joined anew. What this device knows of its log stays,
    /// so that the server has to continue it then.
    Forget(ForgetArgs),
    /// Print a script that completes commands in a shell.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man(ManArgs),
}

/// A file to read from.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TypesArgs {
    /// The SQLite file; it need not take part in sync.
    pub(crate) file: PathBuf,
    /// Type integers as `number | bigint`: those beyond 2^53 come as bigint.
    #[arg(long)]
    pub(crate) bigint: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The invite, as `piecewise-server invite` printed it; `-` reads it from the input. Without it the command asks: what
    /// is typed there stands in no list of processes and in no shell's history.
    pub(crate) invite: Option<String>,
    /// The server's address, if it is reached by another one than the invite names.
    #[arg(long, value_name = "URL")]
    pub(crate) address: Option<String>,
    /// What this device is called at servers, and by other devices; without it, by its host's name.
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// The database's name on the server; with *, several, for a folder.
    pub(crate) database: String,
    /// The file to make, or the folder.
    pub(crate) file: PathBuf,
    /// Which server, if several were joined: its address or a part of it, or how its key begins.
    #[arg(long)]
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TrackArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The tables.
    #[arg(required_unless_present = "all")]
    pub(crate) tables: Vec<String>,
    /// Every table of the file that can be tracked.
    #[arg(long, conflicts_with = "tables")]
    pub(crate) all: bool,
    /// The database's name on the server; needed at the first time.
    #[arg(long = "as", value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    /// A column whose concurrent edits merge by character.
    #[arg(long, value_name = "TABLE.COLUMN")]
    pub(crate) text: Vec<String>,
    /// A column whose concurrent changes add up.
    #[arg(long, value_name = "TABLE.COLUMN")]
    pub(crate) counter: Vec<String>,
    /// Rows keep their numbers although rows of other devices have them: both are kept, in conflict.
    ///
    /// This, --no-keep-numbers, --autoincrement and --ref also change how a table is numbered that is tracked already. The
    /// server takes this one, and the next, from devices with an `admin` grant.
    #[arg(long)]
    pub(crate) keep_numbers: bool,
    /// Rows whose numbers other devices' rows have get others, as without --keep-numbers.
    #[arg(long, conflicts_with = "keep_numbers")]
    pub(crate) no_keep_numbers: bool,
    /// Write AUTOINCREMENT into the table's schema, so that the server gives each device blocks of numbers and few rows get
    /// others; `untrack` takes it out again.
    #[arg(long)]
    pub(crate) autoincrement: bool,
    /// A column that names rows of another table by their key, and that the schema does not declare.
    #[arg(long = "ref", value_name = "TABLE.COLUMN=PARENT.COLUMN")]
    pub(crate) references: Vec<String>,
    /// Where a row of this file differs from the server's under the same number, give this file's another number, with all
    /// that refers to it.
    #[arg(long, conflicts_with = "keep_numbers")]
    pub(crate) renumber_mine: bool,
    /// Whose rows show where both sides have one with the same key that differs.
    #[arg(long, value_enum, default_value_t = Prefer::Server)]
    pub(crate) prefer: Prefer,
    /// Which server, if several were joined: its address or a part of it, or how its key begins.
    #[arg(long)]
    pub(crate) server: Option<String>,
}

/// Whose rows show at first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prefer {
    /// The server's.
    Server,
    /// Those of this file.
    Local,
}

#[derive(Debug, Args)]
pub(crate) struct TablesArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The tables.
    #[arg(required_unless_present = "all")]
    pub(crate) tables: Vec<String>,
    /// Every tracked table.
    #[arg(long, conflicts_with = "tables")]
    pub(crate) all: bool,
    /// Write held rows that cannot be put back into their tables to this new file, as JSON; without it they are listed, and
    /// nothing is done.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) leave_held: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The SQLite file, or a folder of such files.
    pub(crate) file: PathBuf,
    /// Say nothing unless something is wrong.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) sync: SyncArgs,
    /// Let writes gather for so long, such as 500ms, 5s or 1m: edits of a row in between become one change.
    ///
    /// Without it, a write goes out at once while the server is connected. What comes from the server is taken in at once.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s", hide_default_value = true)]
    pub(crate) every: Duration,
    /// How much of one core may be used to check tables against their documents, in percent; 0: none [default: 1].
    #[arg(long, env = "PIECEWISE_CHECK_PERCENT", value_name = "PERCENT", value_parser = percent)]
    pub(crate) check_percent: Option<f64>,
}

/// The longest time that writes may gather.
const EVERY_MAX: Duration = Duration::from_secs(3600);

/// A time such as 500ms, 5s or 1m.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        _ => return Err("a time is a whole number with ms, s or m, such as 5s".into()),
    };
    let number = text[..text.len() - unit.len()]
        .parse::<u64>()
        .map_err(|_| "a time begins with a number".to_owned())?;
    let time = Duration::from_millis(number.saturating_mul(ms));
    if time > EVERY_MAX { Err("at most an hour".into()) } else { Ok(time) }
}

/// A part of a hundred.
fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    percent.ok_or_else(|| "it can be from 0 to 100".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The SQLite file, or a folder of such files.
    pub(crate) file: PathBuf,
    /// What it waits for anyway.
    #[arg(long, hide = true)]
    pub(crate) until_level: bool,
    /// For how long at most; without it, for ever. When it is up, the exit code is 8.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Its address or a part of it, or how its key begins.
    pub(crate) server: String,
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// A file of that server; or a part of its address, or how its key begins; not needed if one server was joined.
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ConflictsArgs {
    /// The SQLite file.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Only this table.
    #[arg(long)]
    pub(crate) table: Option<String>,
    #[command(subcommand)]
    pub(crate) choose: Option<ConflictsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// End a conflict: say which value, or which row, shall show.
    Choose(ChooseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ChooseArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The table.
    pub(crate) table: String,
    /// The row's key, as `conflicts` prints it.
    pub(crate) key: String,
    /// Which one: 0 is what shows, 1 and on are the others as `conflicts` numbers them.
    pub(crate) number: usize,
    /// The column, if the conflict is about one; without it, whole rows are meant.
    #[arg(long)]
    pub(crate) column: Option<String>,
    /// Keep what shows, and insert the other row under a key of its own.
    #[arg(long, conflicts_with = "column")]
    pub(crate) as_new_row: bool,
    /// The new row's key; without it, the next free integer.
    #[arg(long, requires = "as_new_row", value_name = "KEY")]
    pub(crate) new_key: Option<String>,
    /// Have references follow the row that becomes new: those that the device wrote which inserted the row, after it did, and
    /// before it can have seen the row that shows. On that device this is before that row came; on others, before the server had
    /// accepted both rows.
    #[arg(long, requires = "as_new_row")]
    pub(crate) with_references: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RefusedArgs {
    /// The SQLite file.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<RefusedCommand>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct HeldArgs {
    /// The SQLite file.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Only this table.
    #[arg(long)]
    pub(crate) table: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<HeldCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HeldCommand {
    /// Have a held row show: the row that has its UNIQUE value is held instead.
    Choose(HeldRowArgs),
    /// Give columns of a held row other values, so that the table may show it.
    Edit {
        #[command(flatten)]
        row: HeldRowArgs,
        /// Columns and their values; NULL is none.
        #[arg(value_name = "COLUMN=VALUE", required = true)]
        values: Vec<String>,
    },
    /// Delete a held row, on all devices.
    Discard(HeldRowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HeldRowArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The table.
    pub(crate) table: String,
    /// The row's key, as `held` prints it.
    pub(crate) key: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RefusedCommand {
    /// Write the refused rows again; they go out at the next sync.
    Retry {
        /// The SQLite file.
        file: PathBuf,
    },
    /// Give the refused rows up: the table shows the server's state again.
    Revert {
        /// The SQLite file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The table.
    pub(crate) table: String,
    /// The row's key; the values of a composite key are joined by commas.
    pub(crate) key: String,
    /// Ask the server which entry of its log tells of each change, with proof.
    #[arg(long)]
    pub(crate) log: bool,
    /// Save the row, with all its changes, as an Automerge document in a new file.
    #[arg(long, value_name = "NEW FILE", conflicts_with = "log")]
    pub(crate) automerge: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
    /// The tables; all that sync if none is named.
    pub(crate) tables: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the last checkpoint of each server's log, and any alarm with its evidence.
    Status,
    /// Demand proof that what was written here is in the server's log.
    Check(LogCheckArgs),
    /// Verify the exported files of a log with nothing but its public key.
    /// Exit codes: 0 sound, 1 tampered with, 2 could not be checked.
    Verify(LogVerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LogCheckArgs {
    /// The SQLite file.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LogVerifyArgs {
    /// The folder with checkpoint and tiles.
    pub(crate) folder: PathBuf,
    /// The log's public key, as `piecewise-server log status` prints it.
    #[arg(long)]
    pub(crate) key: String,
    /// An older checkpoint that the log must continue. May be repeated.
    #[arg(long, value_name = "NOTE")]
    pub(crate) against: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_a_bound() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(
            (duration("5s"), duration("1m")),
            (Ok(Duration::from_secs(5)), Ok(Duration::from_secs(60)))
        );
        for wrong in ["5", "s", "-1s", "2h", "61m", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn conflicts_lists_and_chooses() {
        let list = Cli::try_parse_from(["piecewise", "conflicts", "app.db", "--json"]).expect("a list");
        assert!(list.output.json && matches!(list.command, Command::Conflicts(c) if c.choose.is_none()));
        let args = ["piecewise", "conflicts", "choose", "app.db", "todos", "1", "2", "--as-new-row"];
        let choose = Cli::try_parse_from(args).expect("a choice");
        assert!(matches!(choose.command, Command::Conflicts(c) if c.choose.is_some()));
        assert!(Cli::try_parse_from(["piecewise", "conflicts"]).is_err());
    }
}
