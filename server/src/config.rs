//! Config: settings from flags, the environment or a TOML file; the first of these that has one wins.

use crate::limits::{LimitArgs, Limits};
use crate::scrubber;
use crate::terminal::OutputArgs;
use crate::terminal::manual::{CompletionsArgs, ManArgs};
use clap::{Args, Parser, Subcommand};
use piecewise_core::grant::{BadGrant, Grant};
use serde::Deserialize;
use std::path::PathBuf;

/// Keeps the tables of a data folder in sync with devices, with nothing to administer per table.
///
/// Each database is a SQLite file there, which programs of this machine may use as well.
#[derive(Debug, Parser)]
#[command(name = "piecewise-server", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// How output is written.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the server's command can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the databases of a data folder.
    Serve(Box<ServeArgs>),
    /// Make an invite for a new device; it works once. Prints the invite alone.
    Invite(InviteArgs),
    /// List the devices that joined, with their grants.
    Peers(DataArgs),
    /// Give a device a grant.
    Grant(GiveArgs),
    /// Take a grant from a device.
    Ungrant(GrantArgs),
    /// Take all rights from a device and end its connections.
    Revoke(RevokeArgs),
    /// Undo what a device wrote since a time, by new changes in the server's name; everyone gets them.
    Evict(EvictArgs),
    /// List invites that nobody has used.
    Invites(DataArgs),
    /// Cancel an invite that nobody has used.
    CancelInvite(CancelArgs),
    /// Compare the tables of a database, or of all, with their documents, row by row, and heal what differs.
    ///
    /// The server does so by itself at a bounded pace, see `serve --check-percent`; it may be running.
    /// Exit codes: 0 all is well or healed, 1 a row could not be healed.
    Check(CheckArgs),
    /// Print a link to the page that shows how the server does; it opens once, within five minutes.
    StatusLink(DataArgs),
    /// Show, verify or export the signed log of everything this server accepted and delivered.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print a script that completes commands in a shell.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man(ManArgs),
}

/// What `log` can do.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// List entries; as JSON, one on each line.
    Show(LogShowArgs),
    /// Verify tree, signatures and receipts, and compare with the databases.
    /// Exit codes: 0 sound, 1 tampered with, 2 could not be checked.
    Verify(LogVerifyArgs),
    /// Print the proof that an entry is under the last checkpoint, as JSON.
    Prove(LogProveArgs),
    /// Write checkpoint, tiles and entries as static files, which anyone can host and verify.
    Export(LogExportArgs),
    /// Show the log's public key and its last checkpoint.
    Status(DataArgs),
    /// Declare that the log goes on under a new name, after supervisor.db was restored from a backup.
    NewOrigin(DataArgs),
}

/// Arguments of `log show`.
#[derive(Debug, Args)]
pub struct LogShowArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// Only entries with this device: its key, or its first digits.
    #[arg(long)]
    pub peer: Option<String>,
    /// Only entries of this container, DATABASE/TABLE.
    #[arg(long, value_name = "DATABASE/TABLE")]
    pub container: Option<String>,
    /// Only entries of segments that changed this row.
    #[arg(long, value_name = "DATABASE/TABLE/KEY")]
    pub row: Option<String>,
    /// Only entries from this time on, such as 2026-11-25T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<humantime::Timestamp>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<humantime::Timestamp>,
}

/// Arguments of `log verify`.
#[derive(Debug, Args)]
pub struct LogVerifyArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// An older checkpoint that the log must continue. May be repeated.
    #[arg(long, value_name = "NOTE")]
    pub against: Vec<PathBuf>,
}

/// Arguments of `log prove`.
#[derive(Debug, Args)]
pub struct LogProveArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The entry's index, as `log show` prints it.
    pub index: u64,
}

/// Arguments of `log export`.
#[derive(Debug, Args)]
pub struct LogExportArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// Where to write.
    pub folder: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The database; all if none is named.
    pub database: Option<String>,
}

/// Where the server keeps everything.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The data folder: one SQLite file per database, supervisor.db, the keys of the server and its log.
    #[arg(long, env = "PIECEWISE_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// Settings of `serve` as they come.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeArgs {
    /// The data folder: one SQLite file per database, supervisor.db, the keys of the server and its log.
    #[arg(long, env = "PIECEWISE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7171].
    #[arg(long, env = "PIECEWISE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// The address that invites name, if it is not the one listened on: ws://… or wss://….
    #[arg(long, env = "PIECEWISE_PUBLIC_ADDRESS", value_name = "URL")]
    pub public_address: Option<String>,
    /// Print an invite for a new device once the server listens, such as 'shop/*=write'. May be repeated: one invite each.
    #[arg(long = "invite", value_name = "PATTERN=ACCESS")]
    #[serde(skip)]
    pub invites: Vec<String>,
    /// A certificate chain in PEM, for TLS.
    #[arg(long, env = "PIECEWISE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key in PEM.
    #[arg(long, env = "PIECEWISE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How to write logs: text or json [default: text].
    #[arg(long, env = "PIECEWISE_LOG_FORMAT", value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Who may read /metrics: this machine alone, all, or nobody [default: local].
    #[arg(long, env = "PIECEWISE_METRICS", value_name = "WHO", value_enum)]
    pub metrics: Option<MetricsFor>,
    /// A second place to listen, for /metrics alone and whoever can connect there: an address, or unix:FILE.
    #[arg(long, env = "PIECEWISE_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<String>,
    /// How much of one core may be used to check tables against their documents, in percent; 0: none [default: 1].
    #[arg(long, env = "PIECEWISE_CHECK_PERCENT", value_name = "PERCENT")]
    pub check_percent: Option<f64>,
    /// A TOML file with any of these settings, named as the flags with _ for -; limits stand under `[limits]`.
    #[arg(long, env = "PIECEWISE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Limits.
    #[command(flatten)]
    #[serde(default)]
    pub limits: LimitArgs,
}

/// Who may read the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsFor {
    /// Programs of this machine.
    Local,
    /// Everybody.
    All,
    /// Nobody.
    Off,
}

/// Settings of `serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The data folder.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: String,
    /// The address that invites name.
    pub public_address: Option<String>,
    /// What each invite that is printed at the start grants.
    pub invites: Vec<Grant>,
    /// A certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Whether logs are JSON.
    pub json_logs: bool,
    /// Who may read the metrics.
    pub metrics: MetricsFor,
    /// Where else they are.
    pub metrics_listen: Option<String>,
    /// How much of one core may be used to check tables, in percent.
    pub check_percent: f64,
    /// Limits.
    pub limits: Limits,
}

/// Arguments of `invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// What the device may do, such as 'shop/*=write'; read, write or admin. May be repeated.
    #[arg(long = "grant", required = true, value_name = "PATTERN=ACCESS")]
    pub grants: Vec<String>,
    /// For how long the invite is good, in hours.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub expires: u64,
    /// How many invites to make, one on each line.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// The server's address, if it is not the one it last listened on.
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,
}

/// Arguments of `grant`.
#[derive(Debug, Args)]
pub struct GiveArgs {
    /// To whom, and what.
    #[command(flatten)]
    pub grant: GrantArgs,
    /// Until when, such as 2026-12-31T18:00:00Z; without it until it is taken away.
    #[arg(long, value_name = "TIME")]
    pub until: Option<humantime::Timestamp>,
}

/// Arguments of `evict`.
#[derive(Debug, Args)]
pub struct EvictArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The device's key, or its first digits.
    #[arg(long, value_name = "KEY")]
    pub author: String,
    /// From which time on, by the times in its changes, such as 2026-11-25T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: humantime::Timestamp,
    /// Only in this database.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

/// Arguments of `cancel-invite`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The invite as `invites` lists it, or the first digits of that.
    pub invite: String,
}

/// Arguments of `grant` and `ungrant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The device's key, or its first digits.
    pub peer: String,
    /// What it may do, such as 'shop/*=write'.
    pub grant: String,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataArgs,
    /// The device's key, or its first digits.
    pub peer: String,
}

impl ServeArgs {
    /// The settings, with those of the file behind flags and environment.
    pub fn resolve(self) -> Result<ServeConfig, String> {
        let file = match &self.config {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?
            }
        };
        let tls_cert = self.tls_cert.or(file.tls_cert);
        let tls_key = self.tls_key.or(file.tls_key);
        if tls_cert.is_some() != tls_key.is_some() {
            return Err("TLS needs both a certificate (--tls-cert) and its key (--tls-key)".into());
        }
        let log_format = self.log_format.or(file.log_format);
        if let Some(format) = log_format.as_deref().filter(|f| !["text", "json"].contains(f)) {
            return Err(format!("log_format is {format:?}; it can be \"text\" or \"json\""));
        }
        let invites = self.invites.iter().map(|grant| grant.parse());
        let invites = invites.collect::<Result<_, BadGrant>>().map_err(|e| e.to_string())?;
        let check_percent = self.check_percent.or(file.check_percent).unwrap_or(scrubber::PERCENT);
        if !(0.0..=100.0).contains(&check_percent) {
            return Err(format!("check_percent is {check_percent}; it can be from 0 to 100"));
        }
        Ok(ServeConfig {
            check_percent,
            invites,
            metrics: self.metrics.or(file.metrics).unwrap_or(MetricsFor::Local),
            metrics_listen: self.metrics_listen.or(file.metrics_listen),
            limits: self.limits.resolve(file.limits)?,
            data: self.data.or(file.data).ok_or("say where the data are: --data DIR, or PIECEWISE_DATA")?,
            listen: self.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:7171".into()),
            public_address: self.public_address.or(file.public_address),
            tls_cert,
            tls_key,
            json_logs: log_format.as_deref() == Some("json"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_what_flags_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.toml");
        std::fs::write(&path, "data = \"d\"\nlisten = \"127.0.0.1:1\"\n").expect("a file");
        let args = ServeArgs {
            listen: Some("127.0.0.1:2".into()),
            config: Some(path.clone()),
            ..Default::default()
        };
        let config = args.resolve().expect("settings");
        assert_eq!((config.data.to_str(), config.listen.as_str()), (Some("d"), "127.0.0.1:2"));
        std::fs::write(&path, "data = \"d\"\nlog_format = \"xml\"\n").expect("a file");
        let args = ServeArgs { config: Some(path.clone()), ..Default::default() };
        assert!(args.resolve().expect_err("a wrong format").contains("xml"));
        std::fs::write(&path, "lisen = 1").expect("a file");
        let args = ServeArgs { config: Some(path), ..Default::default() };
        assert!(args.resolve().expect_err("a wrong name").contains("lisen"));
        assert!(ServeArgs::default().resolve().expect_err("no data").contains("--data"));
    }
}
