//! Help: the commands in groups, each with examples.

use clap::CommandFactory;
use piecewise_server::config::Cli;
use piecewise_server::terminal::help::{self, Group};

const GROUPS: &[Group] = &[
    Group {
        title: "Run",
        commands: &[
            (
                "serve",
                &[
                    "piecewise-server serve --data data --invite 'shop/*=write' > invites",
                    "piecewise-server serve --data data --listen 0.0.0.0:7171 --public-address wss://sync.example.org",
                    "piecewise-server serve --config server.toml --log-format json",
                ],
            ),
            ("status-link", &["piecewise-server status-link --data data"]),
            (
                "check",
                &["piecewise-server check --data data", "piecewise-server check --data data shop --json"],
            ),
        ],
    },
    Group {
        title: "Devices and what they may do",
        commands: &[
            (
                "invite",
                &[
                    "piecewise-server invite --data data --grant 'shop/*=write'",
                    "piecewise-server invite --data data --grant 'shop/*=read' --grant 'notes/*=write' --expires 1",
                    "piecewise-server invite --data data --grant 'shop/*=write' --count 100 --json",
                ],
            ),
            ("invites", &["piecewise-server invites --data data"]),
            ("cancel-invite", &["piecewise-server cancel-invite --data data 3fe2"]),
            ("peers", &["piecewise-server peers --data data", "piecewise-server peers --data data --json"]),
            (
                "grant",
                &[
                    "piecewise-server grant --data data 4f9a 'shop/*=write'",
                    "piecewise-server grant --data data 4f9a 'shop/*=read' --until 2026-12-31T18:00:00Z",
                ],
            ),
            ("ungrant", &["piecewise-server ungrant --data data 4f9a 'shop/*=write'"]),
            ("revoke", &["piecewise-server revoke --data data 4f9a"]),
            ("evict", &["piecewise-server evict --data data --author 4f9a --since 2026-11-25T10:00:00Z"]),
        ],
    },
    Group {
        title: "The signed log",
        commands: &[(
            "log",
            &[
                "piecewise-server log show --data data --since 2026-11-25T10:00:00Z",
                "piecewise-server log show --data data --row shop/todos/7 --json",
                "piecewise-server log verify --data data",
                "piecewise-server log export --data data export",
            ],
        )],
    },
    Group {
        title: "For programs",
        commands: &[
            ("completions", &["piecewise-server completions bash > /etc/bash_completion.d/piecewise-server"]),
            ("man", &["piecewise-server man | man -l -", "piecewise-server man --all man1"]),
        ],
    },
];

/// The command line.
pub(crate) fn command() -> clap::Command {
    help::grouped(Cli::command(), GROUPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_examples_are_too() {
        command().debug_assert();
        help::check(&command(), GROUPS);
    }
}
