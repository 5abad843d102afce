//! Puts the demo page, the status page and the browser package into the binary, as brotli and as gzip, as far as they are built
//! (`make` builds them first). What the demo page loads has the version of all its files in its address, so that browsers keep it.

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a folder's files are served, and which of them.
const FOLDERS: [(&str, &str, &[&str]); 4] = [
    ("../web-demo", "", &["html", "js", "css", "svg", "webmanifest"]),
    (STATUS_PAGE, "status/", &["html", "js", "css"]),
    ("../wasm/npm", "piecewise/", &["js"]),
    ("../wasm/npm/engine", "piecewise/engine/", &["js", "wasm"]),
];
const STATUS_PAGE: &str = "status-page";
/// Files of the demo page that are found by their names alone.
const BY_NAME: [&str; 4] = ["index.html", "sw.js", "manifest.webmanifest", "icon.svg"];
/// Where its service worker has the version.
const VERSION_IN_WORKER: &str = "const VERSION = '';";

/// A file to serve.
struct Page {
    /// Without the slash at its front.
    path: String,
    ending: String,
    bytes: Vec<u8>,
}

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where output goes"));
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where this is"));
    let mut pages: Vec<_> = FOLDERS
        .iter()
        .flat_map(|(folder, prefix, endings)| read(&here.join(folder), prefix, endings))
        .collect();
    let version = version(&pages);
    put_version(&mut pages, &version);
    let mut list = format!("Pages {{ version: {version:?}, files: &[\n");
    pages.iter().for_each(|page| add(&mut list, page, &out));
    list.push_str("] }");
    std::fs::write(out.join("files.rs"), list).expect("the list can be written");
}

fn read(folder: &Path, prefix: &str, endings: &[&str]) -> Vec<Page> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
    let mut files: Vec<_> = files.filter(|f| f.is_file()).collect();
    files.sort();
    let page = |file: PathBuf| {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
        if !endings.contains(&ending.as_str()) {
            return None;
        }
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().and_then(|n| n.to_str()).expect("our files have plain names");
        let bytes = std::fs::read(&file).expect("the file can be read");
        Some(Page { path: format!("{prefix}{name}"), ending, bytes })
    };
    files.into_iter().filter_map(page).collect()
}

/// The version of all that the demo page is made of.
fn version(pages: &[Page]) -> String {
    let mut hash = Sha256::new();
    for page in pages {
        hash.update((page.path.len() as u64).to_be_bytes());
        hash.update(&page.path);
        hash.update((page.bytes.len() as u64).to_be_bytes());
        hash.update(&page.bytes);
    }
    hex(&hash.finalize()[..6])
}

/// Lets the demo page and its service worker name files with the version: what these load is relative to where they are.
fn put_version(pages: &mut [Page], version: &str) {
    let names: Vec<_> = pages.iter().map(|page| page.path.clone()).collect();
    let names = names.iter().filter(|name| !BY_NAME.contains(&name.as_str()) && !name.starts_with("status/"));
    for page in pages.iter_mut() {
        let text = || String::from_utf8(page.bytes.clone()).expect("pages are UTF-8");
        page.bytes = match page.path.as_str() {
            "index.html" => {
                let put = |text: String, name: &String| {
                    text.replace(&format!("=\"{name}\""), &format!("=\"v/{version}/{name}\""))
                };
                names.clone().fold(text(), put).into_bytes()
            }
            "sw.js" => {
                let text = text();
                assert!(text.contains(VERSION_IN_WORKER), "sw.js has a place for the version");
                text.replace(VERSION_IN_WORKER, &format!("const VERSION = '{version}';")).into_bytes()
            }
            _ => continue,
        };
    }
}

fn add(list: &mut String, page: &Page, out: &Path) {
    let kind = match page.ending.as_str() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        _ => "application/manifest+json",
    };
    let path = format!("/{}", page.path);
    let tag = format!("\"{}\"", hex(&Sha256::digest(&page.bytes)[..8]));
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    let gzip = gzip.write_all(&page.bytes).and_then(|()| gzip.finish()).expect("memory takes all");
    let packed = |bytes: &[u8], ending: &str| {
        let file = out.join(format!("{}.{ending}", path.replace('/', "-")));
        std::fs::write(&file, bytes).expect("the file can be written");
        file
    };
    let (gzip, brotli) = (packed(&gzip, "gz"), packed(&brotli(&page.bytes), "br"));
    let _ = writeln!(
        list,
        "Page {{ path: {path:?}, kind: {kind:?}, tag: {tag:?}, gzip: include_bytes!({gzip:?}), brotli: include_bytes!({brotli:?}) }},"
    );
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    // The best takes seconds where this is optimised, and a minute where it is not.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let params = brotli::enc::BrotliEncoderParams {
        quality: if is_release { 11 } else { 5 },
        lgwin: 22,
        size_hint: bytes.len(),
        ..Default::default()
    };
    let mut packed = vec![];
    brotli::BrotliCompress(&mut &bytes[..], &mut packed, &params).expect("memory takes all");
    packed
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
