//! The words about the code are true of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files git would keep, by ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let out = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists files");
    let names = String::from_utf8(out.stdout).expect("names are UTF-8");
    let named = names.lines().filter(|name| name.ends_with(ending)).map(|name| root().join(name));
    named.filter(|path| path.exists()).collect()
}

#[test]
fn every_path_that_a_page_names_exists() {
    let mut missing = BTreeSet::new();
    for page in files(".md") {
        let folder = page.parent().expect("a folder").to_owned();
        let text = read(&page);
        // `path/to/file.ext` in code marks, from the top; [text](path) from the page.
        let marked = text.split('`').skip(1).step_by(2).filter(|s| {
            s.contains('/')
                && s.ends_with(".rs")
                && s.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c))
        });
        let linked = text.split("](").skip(1).filter_map(|s| s.split(')').next());
        let linked = linked.filter(|s| !s.contains(':') && !s.starts_with('#'));
        let paths = marked.map(|s| root().join(s)).chain(linked.map(|s| folder.join(s)));
        missing.extend(paths.filter(|p| !p.exists()).map(|p| format!("{}: {}", page.display(), p.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<_> = files(".rs")
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"))
        .filter(|path| !path.ends_with("tests.rs"))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_decision_is_numbered_and_every_dependency_has_its_reason() {
    let mut numbers: Vec<_> = files(".md")
        .iter()
        .filter(|p| p.parent().is_some_and(|f| f.ends_with("decisions")))
        .filter_map(|p| p.file_name()?.to_str()?.get(..4)?.parse::<u32>().ok())
        .collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "two decisions have one number");
    let manifest = read(&root().join("Cargo.toml"));
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("shared versions");
    let section = section.split("\n[").next().expect("its lines");
    let bare: Vec<_> = section
        .lines()
        .filter(|l| l.contains('=') && !l.starts_with('#') && !l.contains('#') && !l.contains("path ="))
        .collect();
    assert!(bare.is_empty(), "dependencies without a reason: {bare:#?}");
}

#[test]
fn every_code_of_a_failure_is_documented_with_its_exit_code() {
    let source = read(&root().join("cli/src/report.rs"));
    let page = read(&root().join("docs/src/command-line.md"));
    let codes = source.split("= new(\"").skip(1).filter_map(|part| part.split_once(')'));
    let codes: Vec<_> = codes.filter_map(|(code, _)| code.split_once("\", ")).collect();
    assert!(codes.len() > 20, "{codes:?}");
    let row =
        |exit: &str| page.lines().filter(|line| line.starts_with(&format!("| {exit} |"))).collect::<String>();
    let missing: Vec<_> =
        codes.iter().filter(|(word, exit)| !row(exit).contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "not in docs/src/command-line.md: {missing:?}");
}
