//! The text of CREATE INDEX and CREATE TABLE, as far as SQLite tells what it means by that text alone: the terms and the
//! condition of an index, the names that an expression mentions, which foreign keys are deferred.
//!
//! The text is the user's own, and nothing of it leaves the file.

/// The terms and the condition of an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexText {
    /// Its terms, without ASC and DESC.
    pub(crate) terms: Vec<String>,
    /// What stands after WHERE; None if it is over all rows.
    pub(crate) condition: Option<String>,
}

/// What a text of SQL consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A keyword, a name or a number without quotes.
    Word(String),
    /// A name in quotes, without them.
    Name(String),
    /// A text, as it is spelled.
    Text(String),
    Sign(char),
    /// A space or a comment.
    Space,
}

/// Takes CREATE INDEX apart; None if it cannot be understood.
pub(crate) fn index(sql: &str) -> Option<IndexText> {
    let mut found = IndexText::default();
    let (mut depth, mut term, mut rest) = (0, String::new(), sql);
    while !rest.is_empty() {
        let (token, len) = next_token(rest)?;
        let text = &rest[..len];
        rest = &rest[len..];
        match token {
            Token::Sign('(') => {
                depth += 1;
                if depth == 1 {
                    continue;
                }
            }
            Token::Sign(',') if depth == 1 => {
                found.terms.push(without_order(&std::mem::take(&mut term)));
                continue;
            }
            Token::Sign(')') => {
                depth -= 1;
                if depth == 0 {
                    found.terms.push(without_order(&term));
                    found.condition = condition(rest)?;
                    return Some(found);
                }
            }
            _ => {}
        }
        if depth > 0 {
            // A comment that ends with its line would hide what is written behind it.
            term.push_str(if token == Token::Space { " " } else { text });
        }
    }
    None
}

/// What stands after WHERE at the end of CREATE INDEX.
fn condition(mut rest: &str) -> Option<Option<String>> {
    let (mut text, mut begun) = (String::new(), false);
    while !rest.is_empty() {
        let (token, len) = next_token(rest)?;
        match token {
            Token::Word(word) if !begun && word.eq_ignore_ascii_case("WHERE") => begun = true,
            Token::Space => text.push(' '),
            _ if !begun => return None,
            _ => text.push_str(&rest[..len]),
        }
        rest = &rest[len..];
    }
    Some(begun.then(|| text.trim().to_owned()))
}

/// The names that an expression may mean columns by, in small letters; more than those, where a word is a keyword.
pub(crate) fn names(sql: &str) -> Vec<String> {
    let name = |token| match token {
        Token::Word(name) | Token::Name(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    read_tokens(sql).into_iter().filter_map(name).collect()
}

/// The name that a quoted or bare name means; None if it is anything else.
pub(crate) fn single_name(sql: &str) -> Option<String> {
    match read_tokens(sql).as_slice() {
        [Token::Name(name)] => Some(name.clone()),
        [Token::Word(name)] if !name.starts_with(|c: char| c.is_ascii_digit()) => Some(name.clone()),
        _ => None,
    }
}

/// For each foreign key of CREATE TABLE, in the order of its text, whether it is INITIALLY DEFERRED.
pub(crate) fn deferred(sql: &str) -> Vec<bool> {
    let mut found: Vec<bool> = vec![];
    let words: Vec<_> = words(sql).collect();
    for (n, word) in words.iter().enumerate() {
        let follows = |at: usize, wanted: &str| words.get(at).is_some_and(|w| w == wanted);
        match word.as_str() {
            "REFERENCES" => found.push(false),
            "DEFERRABLE" => {
                let negated = n > 0 && follows(n - 1, "NOT");
                let deferred = !negated && follows(n + 1, "INITIALLY") && follows(n + 2, "DEFERRED");
                found.last_mut().into_iter().for_each(|last| *last = deferred);
            }
            _ => {}
        }
    }
    found
}

/// Where AUTOINCREMENT goes in CREATE TABLE: behind PRIMARY KEY, its order and its conflict clause, or as the last word of a key
/// that is named at the end. None: the text is none that is understood, or has it.
pub(crate) fn autoincrement_place(sql: &str) -> Option<usize> {
    let all: Vec<_> = placed(sql)?.into_iter().filter(|(token, _)| *token != Token::Space).collect();
    let is = |n: usize, word: &str| {
        matches!(&all.get(n)?.0, Token::Word(w) if w.eq_ignore_ascii_case(word)).then_some(())
    };
    let sign = |n: usize, sign: char| all.get(n).is_some_and(|(token, _)| *token == Token::Sign(sign));
    let (mut depth, mut found) = (0, None);
    for (n, (token, _)) in all.iter().enumerate() {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            Token::Word(word) if word.eq_ignore_ascii_case("AUTOINCREMENT") => return None,
            Token::Word(_) if depth == 1 && is(n, "PRIMARY").is_some() && is(n + 1, "KEY").is_some() => {
                let mut last = n + 1;
                if sign(n + 2, '(') {
                    last = (n + 3..all.len()).find(|at| sign(*at, ')'))? - 1;
                } else {
                    if is(last + 1, "ASC").is_some() {
                        last += 1;
                    }
                    if is(last + 1, "ON").is_some() && is(last + 2, "CONFLICT").is_some() {
                        last += 3;
                    }
                }
                if found.replace(all.get(last)?.1).is_some() {
                    return None;
                }
            }
            _ => {}
        }
    }
    found
}

/// Where AUTOINCREMENT stands in CREATE TABLE.
pub(crate) fn autoincrement(sql: &str) -> Option<std::ops::Range<usize>> {
    let is = |token: &Token| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case("AUTOINCREMENT"));
    let (_, end) = placed(sql)?.into_iter().find(|(token, _)| is(token))?;
    Some(end - "AUTOINCREMENT".len()..end)
}

/// The tokens of a whole text, each with where it ends; None if it is none of SQL.
fn placed(sql: &str) -> Option<Vec<(Token, usize)>> {
    let (mut found, mut at) = (vec![], 0);
    while at < sql.len() {
        let (token, len) = next_token(&sql[at..])?;
        at += len;
        found.push((token, at));
    }
    Some(found)
}

/// Whether a keyword stands in a statement, and how often.
pub(crate) fn count_word(sql: &str, keyword: &str) -> usize {
    words(sql).filter(|word| word == keyword).count()
}

/// The words without quotes, in capitals.
fn words(sql: &str) -> impl Iterator<Item = String> {
    let word = |token| if let Token::Word(word) = token { Some(word.to_ascii_uppercase()) } else { None };
    read_tokens(sql).into_iter().filter_map(word)
}

/// The tokens of a text as they are spelled, names and texts with their quotes, up to where it is none of SQL. Spaces and
/// comments are left out.
pub(crate) fn tokens(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        loop {
            let (token, len) = next_token(rest)?;
            let (text, after) = rest.split_at(len);
            rest = after;
            if token != Token::Space {
                return Some(text);
            }
        }
    })
}

/// The tokens of a text up to where it is none of SQL, without spaces and comments.
fn read_tokens(mut rest: &str) -> Vec<Token> {
    let mut tokens = vec![];
    while let Some((token, len)) = next_token(rest) {
        if token != Token::Space {
            tokens.push(token);
        }
        rest = &rest[len..];
    }
    tokens
}

/// The token that a text begins with, and its length.
fn next_token(text: &str) -> Option<(Token, usize)> {
    let first = text.chars().next()?;
    let until = |end: &str, from: usize| text[from..].find(end).map(|n| from + n + end.len());
    match first {
        '\'' => quoted(text, first).map(|(_, len)| (Token::Text(text[..len].to_owned()), len)),
        '"' | '`' => quoted(text, first).map(|(name, len)| (Token::Name(name), len)),
        '[' => until("]", 1).map(|len| (Token::Name(text[1..len - 1].to_owned()), len)),
        '-' if text.starts_with("--") => Some((Token::Space, until("\n", 2).unwrap_or(text.len()))),
        '/' if text.starts_with("/*") => Some((Token::Space, until("*/", 2).unwrap_or(text.len()))),
        c if c.is_ascii_whitespace() => Some((Token::Space, 1)),
        c if is_of_word(c) => {
            let len = text.find(|c| !is_of_word(c)).unwrap_or(text.len());
            Some((Token::Word(text[..len].to_owned()), len))
        }
        c => Some((Token::Sign(c), c.len_utf8())),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// What stands in quotes, of which doubled ones are one, and how long it is with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, c)| *c == quote).is_none() {
            return Some((inner, at + quote.len_utf8()));
        }
        inner.push(c);
    }
    None
}

fn without_order(term: &str) -> String {
    let term = term.trim();
    for order in ["ASC", "DESC"] {
        let Some(place) = term.len().checked_sub(order.len()).filter(|n| term.is_char_boundary(*n)) else {
            continue;
        };
        let (before, end) = term.split_at(place);
        if end.eq_ignore_ascii_case(order) && before.ends_with(|c: char| c.is_whitespace() || c == ')') {
            return before.trim_end().to_owned();
        }
    }
    term.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_told_apart_whatever_is_in_them() {
        let read = |sql: &str| index(sql).unwrap().terms;
        assert_eq!(read("CREATE UNIQUE INDEX i ON t(lower(email))"), ["lower(email)"]);
        assert_eq!(
            read("CREATE INDEX \"i(1)\" ON [t(2)] (a, substr(b, 1, 3) DESC, c || ',)' ASC) WHERE (a > 1)"),
            ["a", "substr(b, 1, 3)", "c || ',)'"]
        );
        assert_eq!(read("create index i on t(a -- ,b)\n, /* ) */ \"x\"\",y\")"), ["a", "\"x\"\",y\""]);
        assert_eq!(read("CREATE INDEX i ON t(ä, descr)"), ["ä", "descr"]);
        assert_eq!(index("CREATE INDEX i ON t(a"), None);
        assert_eq!(index("CREATE INDEX i ON t('a"), None);
    }

    #[test]
    fn the_condition_of_a_partial_index_is_what_stands_after_where() {
        let read = |sql: &str| index(sql).unwrap().condition;
        assert_eq!(read("CREATE INDEX i ON t(a)"), None);
        assert_eq!(read("CREATE INDEX i ON t(a)where b IS NULL -- gone\n"), Some("b IS NULL".into()));
        assert_eq!(read("CREATE INDEX i ON t(a) WHERE \"where\" = ' x'"), Some("\"where\" = ' x'".into()));
    }

    #[test]
    fn names_are_read_through_their_quotes() {
        assert_eq!(names("lower(\"A\"\"b\") || [c d] || `E` || 'f'"), ["lower", "a\"b", "c d", "e"]);
        assert_eq!(single_name("\"a\"\"b\""), Some("a\"b".into()));
        assert_eq!(single_name("abc"), Some("abc".into()));
        assert_eq!(single_name("lower('a')"), None);
    }

    #[test]
    fn deferred_foreign_keys_and_keywords_are_found_in_create_table() {
        let sql = "CREATE TABLE t(a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b REFERENCES \"references\"(x) /* DEFERRABLE */,
                   FOREIGN KEY (a) REFERENCES q NOT DEFERRABLE INITIALLY DEFERRED, c TEXT DEFAULT 'CHECK', CHECK (a > 1))";
        assert_eq!(deferred(sql), [true, false, false]);
        assert_eq!(count_word(sql, "CHECK"), 1);
    }

    #[test]
    fn autoincrement_goes_behind_the_key() {
        for (sql, expected) in [
            (
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
                "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)",
            ),
            (
                "CREATE TABLE t(id integer primary /* x */ key asc on conflict abort/*,*/not null, a)",
                "CREATE TABLE t(id integer primary /* x */ key asc on conflict abort AUTOINCREMENT/*,*/not null, a)",
            ),
            (
                "CREATE TABLE t(\"primary key\" DEFAULT ('primary key'), id INTEGER, PRIMARY KEY ( id -- x\n) ON CONFLICT FAIL)",
                "CREATE TABLE t(\"primary key\" DEFAULT ('primary key'), id INTEGER, PRIMARY KEY ( id AUTOINCREMENT -- x\n) ON CONFLICT FAIL)",
            ),
        ] {
            let place = autoincrement_place(sql).unwrap();
            let with = format!("{} AUTOINCREMENT{}", &sql[..place], &sql[place..]);
            assert_eq!(with, expected);
            let word = autoincrement(&with).unwrap();
            assert_eq!(format!("{}{}", &with[..word.start - 1], &with[word.end..]), sql);
        }
        for sql in
            ["CREATE TABLE t(a)", "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)", "CREATE TABLE t('"]
        {
            assert_eq!(autoincrement_place(sql), None, "{sql}");
        }
    }
}
