//! Puts the demo page, the status page and the browser package into the binary as gzip, as far as they are built (`make`
//! builds them first).

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a folder's files are served, and which of them.
const FOLDERS: [(&str, &str, &[&str]); 4] = [
    ("../web-demo", "", &["html", "js", "css", "svg", "webmanifest"]),
    ("status-page", "status/", &["html", "js", "css"]),
    ("../wasm/npm", "piecewise/", &["js"]),
    ("../wasm/npm/engine", "piecewise/engine/", &["js", "wasm"]),
];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where output goes"));
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
                add(&mut list, prefix, file, ending, &out);
            }
        }
    }
    list.push(']');
    std::fs::write(out.join("files.rs"), list).expect("the list can be written");
}

fn add(list: &mut String, prefix: &str, file: &Path, ending: &str, out: &Path) {
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
    let path = format!("/{prefix}{name}");
    let bytes = std::fs::read(file).expect("the file can be read");
    let tag: String = Sha256::digest(&bytes)[..8].iter().map(|b| format!("{b:02x}")).collect();
    let packed = out.join(path.replace('/', "-"));
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    let packing = gzip.write_all(&bytes).and_then(|()| gzip.finish());
    std::fs::write(&packed, packing.expect("memory takes all")).expect("the file can be written");
    let tag = format!("\"{tag}\"");
    let _ = writeln!(
        list,
        "Page {{ path: {path:?}, kind: {kind:?}, tag: {tag:?}, gzip: include_bytes!({packed:?}) }},"
    );
}
