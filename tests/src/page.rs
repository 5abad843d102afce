//! Page: BENCHMARKS.md, a page of sections, each of which the tool that measured it replaces.
//!
//! A section begins with `## ` and its title, and ends where the next begins. What a tool does not know stays.

use std::io;
use std::path::Path;

/// A page of sections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    intro: String,
    sections: Vec<(String, String)>,
}

impl Page {
    /// Reads a page; an empty one if there is no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Self {
        let mut parts = format!("\n{text}");
        let rest = parts.find("\n## ").map_or(String::new(), |at| parts.split_off(at));
        let section = |part: &str| {
            let (title, body) = part.split_once('\n').unwrap_or((part, ""));
            (title.trim().to_owned(), body.trim().to_owned())
        };
        let sections = rest.split("\n## ").skip(1).map(section).collect();
        Self { intro: parts.trim().to_owned(), sections }
    }

    /// Says what stands before the first section.
    pub fn set_intro(&mut self, text: &str) {
        text.trim().clone_into(&mut self.intro);
    }

    /// Puts a section in the place of the one with the same title, or at the end.
    pub fn put(&mut self, title: &str, body: &str) {
        let body = body.trim().to_owned();
        match self.sections.iter_mut().find(|(t, _)| t == title) {
            Some(section) => section.1 = body,
            None => self.sections.push((title.to_owned(), body)),
        }
    }

    /// The page as text.
    pub fn text(&self) -> String {
        let sections = self.sections.iter().map(|(title, body)| format!("\n## {title}\n\n{body}\n"));
        std::iter::once(format!("{}\n", self.intro)).chain(sections).collect()
    }
}

/// Prints a section, and puts it into the page at `path` if there is one.
pub fn tell(path: Option<&Path>, title: &str, body: &str) {
    println!("\n## {title}\n\n{}\n", body.trim());
    let Some(path) = path else { return };
    let mut page = Page::read(path).expect("the page can be read");
    page.put(title, body);
    std::fs::write(path, page.text()).expect("the page can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\nIntro.\n\n## One\n\na\n\n| b |\n\n## Two\n\nc\n";

    #[test]
    fn a_page_comes_back_as_it_was() {
        assert_eq!(Page::parse(TEXT).text(), TEXT);
    }

    #[test]
    fn a_section_is_replaced_where_it_stands_and_a_new_one_goes_to_the_end() {
        let mut page = Page::parse(TEXT);
        page.put("One", "\nx\n");
        page.put("Three", "y");
        page.set_intro("# Other\n");
        assert_eq!(page.text(), "# Other\n\n## One\n\nx\n\n## Two\n\nc\n\n## Three\n\ny\n");
    }
}
