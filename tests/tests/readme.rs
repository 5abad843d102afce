//! README's first block works when it is pasted as a whole into a fresh folder.

use piecewise_tests::process::binary;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_first_block_shows_the_row_on_the_other_device() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README");
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert!(!block.contains('#'), "a comment would be a command in zsh");
    let folder = tempfile::tempdir().expect("a folder");
    let server = binary("piecewise-server");
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = server.parent().expect("a folder").display();
    // A time limit: a block that waits without an end must fail here.
    let output = Command::new("timeout")
        .args(["120", "bash", "-c"])
        .arg(format!("set -eu; trap 'kill $(jobs -p)' EXIT\n{block}"))
        .current_dir(folder.path())
        .env("PATH", format!("{bin}:{path}"))
        // A port that is free, for other tests run too.
        .env("PIECEWISE_LISTEN", "127.0.0.1:0")
        .env_remove("PIECEWISE_HOME")
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.trim_end().ends_with("1|Buy milk|0"), "{out}{err}");
}
