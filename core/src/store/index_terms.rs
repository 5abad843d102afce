//! The terms of an index as its SQL spells them: of an index over expressions, SQLite tells no more than that.

/// The terms between the parentheses of a CREATE INDEX, without ASC and DESC; None if it is not to be understood.
pub(crate) fn terms(sql: &str) -> Option<Vec<String>> {
    let mut terms = vec![];
    let (mut depth, mut start) = (0, 0);
    let mut at = 0;
    while at < sql.len() {
        let rest = &sql[at..];
        let step = token_len(rest)?;
        match rest.as_bytes()[0] {
            b'(' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            b',' if depth == 1 => {
                terms.push(without_order(&sql[start..at]));
                start = at + 1;
            }
            b')' => {
                depth -= 1;
                if depth == 0 {
                    terms.push(without_order(&sql[start..at]));
                    return Some(terms);
                }
            }
            _ => {}
        }
        at += step;
    }
    None
}

/// How long the quoted text, the comment or the single character is that a text begins with.
fn token_len(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let until = |end: &str, from: usize| text[from..].find(end).map(|n| from + n + end.len());
    match first {
        // A doubled quote inside is the end of one text and the beginning of the next.
        '\'' | '"' | '`' => until(&first.to_string(), 1),
        '[' => until("]", 1),
        '-' if text.starts_with("--") => Some(until("\n", 2).unwrap_or(text.len())),
        '/' if text.starts_with("/*") => until("*/", 2),
        _ => Some(first.len_utf8()),
    }
}

/// The tokens of an SQL text: words, quoted texts with their quotes, and single characters. Spaces and comments are left out;
/// what is not to be understood ends them.
pub(crate) fn tokens(sql: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            let mut len = token_len(rest)?;
            let (first, is_comment) =
                (rest.chars().next()?, rest.starts_with("--") || rest.starts_with("/*"));
            if is_word(first) {
                len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            } else if matches!(first, '\'' | '"' | '`') {
                // A doubled quote goes on.
                while rest[len..].starts_with(first) {
                    len += token_len(&rest[len..])?;
                }
            }
            let (token, after) = rest.split_at(len);
            rest = after;
            if !is_comment {
                return Some(token);
            }
        }
    })
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
        let read = |sql: &str| terms(sql).unwrap();
        assert_eq!(read("CREATE UNIQUE INDEX i ON t(lower(email))"), ["lower(email)"]);
        assert_eq!(
            read("CREATE INDEX \"i(1)\" ON [t(2)] (a, substr(b, 1, 3) DESC, c || ',)' ASC) WHERE (a > 1)"),
            ["a", "substr(b, 1, 3)", "c || ',)'"]
        );
        assert_eq!(
            read("create index i on t(a -- ,b)\n, /* ) */ \"x\"\",y\")"),
            ["a -- ,b)", "/* ) */ \"x\"\",y\""]
        );
        assert_eq!(read("CREATE INDEX i ON t(ä, descr)"), ["ä", "descr"]);
        assert_eq!(terms("CREATE INDEX i ON t(a"), None);
        assert_eq!(terms("CREATE INDEX i ON t('a"), None);
    }
}
