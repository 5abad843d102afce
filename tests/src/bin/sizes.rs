//! Sizes: what is downloaded and installed, from what `make dist` made; a section of BENCHMARKS.md.
//!
//! `sizes PAGE`

use piecewise_server::terminal::bytes;
use piecewise_tests::page::tell;
use std::path::{Path, PathBuf};

fn main() {
    let page = std::env::args_os().nth(1).map(PathBuf::from);
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist");
    let size = |file: &Path| {
        std::fs::metadata(file).map(|m| m.len()).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    let mut lines = vec!["Stripped, without shared libraries; `make dist dist-check`.\n".to_owned()];
    lines.push("| what | size |".into());
    lines.push("|---|---|".into());
    for name in ["piecewise", "piecewise-server"] {
        lines.push(format!("| `{name}` | {} |", bytes(size(&dist.join("stage/bin").join(name)))));
    }
    let mut files: Vec<_> = std::fs::read_dir(&dist)
        .expect("dist/ is there; run `make dist`")
        .flatten()
        .map(|f| f.path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tar.gz") || name.ends_with(".deb") {
            lines.push(format!("| `{name}` | {} |", bytes(size(&file))));
        }
    }
    tell(page.as_deref(), "Install sizes", &lines.join("\n"));
}
