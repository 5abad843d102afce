//! Report: what a database's thread tells of it when it is asked, for `/metrics` and the status page.

use crate::database::Command;
use crate::listener::Server;
use piecewise_core::grant::{Access, Grant, access};
use piecewise_core::id::PeerId;
use piecewise_core::link::{Link, Traffic};
use piecewise_core::replica::{OverviewOf, Replica};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How long to wait for threads that are busy; what comes later is left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question to a database's thread.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Whoever holds these sees what they administer.
    grants: Vec<Grant>,
    answer: UnboundedSender<Report>,
}

/// A database as those may see it who asked.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) database: String,
    pub(crate) containers: Vec<OverviewOf>,
    /// Entries that wait to go into the log.
    pub(crate) outbox: u64,
    /// Who is connected, and how far it has come with those containers.
    pub(crate) links: Vec<(PeerId, Traffic)>,
    /// Whether its file is closed until somebody needs it.
    pub(crate) at_rest: bool,
    /// Why its file cannot be opened now, if it cannot.
    pub(crate) failed: Option<String>,
}

/// Whether these grants administer a container.
pub(crate) fn administers(grants: &[Grant], container: &str) -> bool {
    access(grants, container) == Some(Access::Admin)
}

/// Whether they administer anything.
pub(crate) fn administers_any(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.access == Access::Admin)
}

/// Whether they administer every container that the database has or may get.
pub(crate) fn administers_all(grants: &[Grant], database: &str) -> bool {
    // No container has this name, and only patterns that leave the table open cover it.
    administers(grants, &format!("{database}/\u{1}"))
}

impl Ask {
    /// Answers from a database's thread.
    pub(crate) fn answer<'l>(
        &self,
        database: &str,
        replica: &Replica,
        links: impl Iterator<Item = (PeerId, &'l Link)>,
    ) {
        let covered = |name: &str| administers(&self.grants, name);
        let overview = match replica.overview(covered) {
            Ok(overview) => overview,
            Err(error) => return tracing::error!(database, %error, "cannot tell how it is"),
        };
        let links = links.map(|(peer, link)| (peer, link.traffic_of(replica, covered))).collect();
        let (containers, outbox) = (overview.containers, overview.outbox);
        let _ = self.answer.send(Report {
            database: database.to_owned(),
            containers,
            outbox,
            links,
            at_rest: false,
            failed: None,
        });
    }
}

impl Server {
    /// Asks every open database in which these grants administer something; those at rest are told of as they were.
    pub(crate) async fn reports(&self, grants: &[Grant]) -> Vec<Report> {
        let (answer, mut answers) = unbounded_channel();
        self.databases.each(|commands| {
            let ask = Ask { grants: grants.to_vec(), answer: answer.clone() };
            let _ = commands.send(Command::Report(ask));
        });
        drop(answer);
        let mut reports = vec![];
        let gather = async {
            while let Some(report) = answers.recv().await {
                reports.push(report);
            }
        };
        let _ = tokio::time::timeout(PATIENCE, gather).await;
        let covered = |name: &str| administers(grants, name);
        let at_rest = self.databases.at_rest(covered, |database, containers, peers| Report {
            database: database.to_owned(),
            containers,
            outbox: 0,
            // Links rest only once both sides are level.
            links: peers.into_iter().map(|peer| (peer, Traffic::default())).collect(),
            at_rest: true,
            failed: None,
        });
        // One that was closed while it was asked has told already.
        let told: HashSet<_> = reports.iter().map(|report| report.database.clone()).collect();
        reports.extend(at_rest.into_iter().filter(|report| !told.contains(&report.database)));
        for (database, cause) in self.databases.failed() {
            if let Some(report) = reports.iter_mut().find(|report| report.database == database) {
                report.failed = Some(cause)
                    .filter(|_| !report.containers.is_empty() || administers_all(grants, &database));
            }
        }
        reports.sort_by(|a, b| a.database.cmp(&b.database));
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_grant_that_leaves_the_table_open_administers_a_whole_database() {
        let all = |grant: &str| administers_all(&[grant.parse().expect("a grant")], "shop");
        assert!(all("shop/*=admin") && all("**=admin") && all("s*/*=admin"));
        assert!(
            !all("shop/*=write") && !all("shop/orders=admin") && !all("shop/o*=admin") && !all("x/*=admin")
        );
    }
}
