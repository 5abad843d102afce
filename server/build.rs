//! Puts the demo page, the status page and the browser package into the binary, as far as they are built (`make` builds them first).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where a folder's files are served, and which of them.
const FOLDERS: [(&str, &str, &[&str]); 4] = [
    ("../web-demo", "", &["html", "js", "css", "svg", "webmanifest"]),
    ("status-page", "status/", &["html", "js", "css"]),
    ("../wasm/npm", "piecewise/", &["js"]),
    ("../wasm/npm/engine", "piecewise/engine/", &["js", "wasm"]),
];

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where this is"));
    let mut list = String::from("&[\n");
    for (folder, prefix, endings) in FOLDERS {
        let folder = here.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|f| f.path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.is_file()) {
            let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if endings.contains(&ending) {
                add(&mut list, prefix, file, ending);
            }
        }
    }
    list.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where output goes"));
    std::fs::write(out.join("files.rs"), list).expect("the list can be written");
}

fn add(list: &mut String, prefix: &str, file: &Path, ending: &str) {
    let kind = match ending {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        _ => "application/manifest+json",
    };
    println!("cargo::rerun-if-changed={}", file.display());
    let name = file.file_name().and_then(|n| n.to_str()).expect("our files have plain names");
    let _ = writeln!(
        list,
        "({:?}, {kind:?}, include_bytes!({:?}).as_slice()),",
        format!("/{prefix}{name}"),
        file
    );
}
