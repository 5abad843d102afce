//! Upkeep: what a server does once a second: look at the disk, let databases rest and open those that could not be, write the ledger down; and look whether
//! rights have changed, which it hears of as well.

use crate::commits::SETTLE;
use crate::database::Command;
use crate::limits::Hit;
use crate::listener::Server;
use piecewise_core::link::Stop;
use std::sync::Arc;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Runs until the server stops.
pub(crate) async fn run(server: Arc<Server>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut stop, mut stopped) = (server.stopping(), None);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = server.supervisor.written.notified() => {
                // The commit can be seen a moment after the write that tells of it.
                tokio::time::sleep(SETTLE).await;
                server.supervisor.look();
                continue;
            }
            _ = stop.changed() => return,
        }
        if let Err(error) = server.supervisor.expire_grants(crate::now()) {
            tracing::error!(%error, "grants whose time is over could not be taken away");
        }
        server.supervisor.look();
        look_at_disk(&server, &mut stopped);
        server.databases.trim();
        server.databases.retry();
        server.write_ledger();
    }
}

fn look_at_disk(server: &Server, before: &mut Option<Stop>) {
    let now = server.disk.stop();
    if std::mem::replace(before, now) == now {
        return;
    }
    let (free, reserve) = (server.disk.free().unwrap_or(0), server.disk.reserve());
    if now.is_some() {
        server.metrics.hits.count(Hit::Disk);
        tracing::error!(
            free,
            reserve,
            "the disk is nearly full: nothing is taken in until there is room again; what is here can be read"
        );
    } else {
        tracing::info!(free, reserve, "there is room on the disk again; changes are taken in");
    }
    server.databases.each(|commands| {
        let _ = commands.send(Command::Wake);
    });
}

impl Server {
    /// Writes down what is known of peers, and their cosignatures: one transaction for all of them.
    pub(crate) fn write_ledger(&self) {
        let mut state = self.supervisor.state();
        let cosigned = std::mem::take(&mut state.cosigned);
        if let Err(error) = self.supervisor.ledger.write(&mut state.conn, &cosigned) {
            tracing::error!(%error, "what is known of peers cannot be written down; it is tried again");
            state.cosigned = cosigned;
        }
    }
}
