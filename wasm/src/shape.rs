//! Shape: what the text of a live query says about it. Where every row of the result shows one row of one table, a write to
//! that table changes the rows with the same key and no others, so those are read and not the whole table.
//!
//! Words that could mean anything else make a query one that is run as a whole; that is always right, only slower.

/// A query each of whose rows shows one row of one table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) table: String,
    /// Terms of ORDER BY; empty: none.
    pub(crate) order: Vec<Term>,
}

/// One term of ORDER BY.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) column: OrderBy,
    pub(crate) is_descending: bool,
}

/// What a term names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OrderBy {
    /// A column of the result or, if it has none of that name, of the table.
    Name(String),
    /// A column of the table.
    Column(String),
    /// A column of the result, from 1.
    Position(usize),
}

/// Words with which a row of the result may depend on more than one row of a table.
const WIDE: [&str; 27] = [
    "DISTINCT",
    "ALL",
    "GROUP",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "OVER",
    "WINDOW",
    "FILTER",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "JOIN",
    "NATURAL",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "CROSS",
    "WITH",
    "VALUES",
    "EXISTS",
    "MATCH",
    "RAISE",
    "CURRENT_TIME",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
];
/// Functions of their arguments alone.
const PURE: [&str; 30] = [
    "LOWER",
    "UPPER",
    "LENGTH",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "ABS",
    "ROUND",
    "SUBSTR",
    "SUBSTRING",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "REPLACE",
    "INSTR",
    "TYPEOF",
    "HEX",
    "PRINTF",
    "FORMAT",
    "IIF",
    "LIKE",
    "GLOB",
    "UNICODE",
    "QUOTE",
    "CAST",
    "JSON_EXTRACT",
    "JSON_ARRAY_LENGTH",
    "JSON_TYPE",
    "JSON_VALID",
    "CHAR",
];
/// Words before a parenthesis that call no function.
const PLAIN: [&str; 17] = [
    "IN", "AND", "OR", "NOT", "WHERE", "SELECT", "THEN", "WHEN", "ELSE", "CASE", "BETWEEN", "IS", "BY",
    "ISNULL", "NOTNULL", "ESCAPE", "REGEXP",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A keyword or a name without quotes.
    Word(String),
    /// A name in quotes.
    Name(String),
    Number(String),
    Symbol(char),
    /// A text, a BLOB or a parameter.
    Value,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn is_among(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Shape {
    /// Returns the shape of a query, `None` if a row of its result may show anything but one row of one table.
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut tokens = tokens(sql)?;
        while tokens.last() == Some(&Token::Symbol(';')) {
            tokens.pop();
        }
        if !tokens.first()?.is("SELECT") || tokens[1..].iter().any(|token| token.is("SELECT")) {
            return None;
        }
        let called = |pair: &[Token]| {
            let is_name = pair[0].name().is_some();
            is_name && pair[1] == Token::Symbol('(') && !pair[0].is_among(&PURE) && !pair[0].is_among(&PLAIN)
        };
        let table_in = |pair: &[Token]| pair[0].is("IN") && pair[1] != Token::Symbol('(');
        if tokens.iter().any(|token| token.is_among(&WIDE))
            || tokens.windows(2).any(|pair| called(pair) || table_in(pair))
        {
            return None;
        }
        let from = at_top(&tokens, "FROM")?;
        let order = at_top(&tokens, "ORDER");
        let end = at_top(&tokens, "WHERE").or(order).unwrap_or(tokens.len());
        let table = source(tokens.get(from + 1..end)?)?;
        let order = match order {
            Some(at) if tokens.get(at + 1)?.is("BY") => terms(&tokens[at + 2..])?,
            Some(_) => return None,
            None => vec![],
        };
        Some(Self { table, order })
    }
}

/// Where a word stands outside of parentheses.
fn at_top(tokens: &[Token], word: &str) -> Option<usize> {
    let mut depth = 0;
    tokens.iter().position(|token| {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        depth == 0 && token.is(word)
    })
}

/// The one table between FROM and WHERE.
fn source(tokens: &[Token]) -> Option<String> {
    let tokens = match tokens {
        [schema, Token::Symbol('.'), rest @ ..] if schema.name()?.eq_ignore_ascii_case("main") => rest,
        all => all,
    };
    match tokens {
        [table] => table.name(),
        [table, alias] if alias.name().is_some() => table.name(),
        [table, word, alias] if word.is("AS") && alias.name().is_some() => table.name(),
        _ => None,
    }
}

fn terms(tokens: &[Token]) -> Option<Vec<Term>> {
    tokens.split(|token| *token == Token::Symbol(',')).map(term).collect()
}

fn term(tokens: &[Token]) -> Option<Term> {
    let (tokens, is_descending) = match tokens {
        [rest @ .., last] if last.is("DESC") => (rest, true),
        [rest @ .., last] if last.is("ASC") => (rest, false),
        all => (all, false),
    };
    let column = match tokens {
        [Token::Number(number)] => OrderBy::Position(number.parse().ok()?),
        [name] => OrderBy::Name(name.name()?),
        [table, Token::Symbol('.'), name] if table.name().is_some() => OrderBy::Column(name.name()?),
        _ => return None,
    };
    Some(Term { column, is_descending })
}

/// The words of a statement; `None` where a quote or comment does not end.
fn tokens(sql: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = sql.chars().collect();
    let mut found = vec![];
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        match c {
            _ if c.is_whitespace() => at += 1,
            '-' if next == Some('-') => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == Some('*') => {
                at += 4 + chars[at + 2..].windows(2).position(|pair| pair == ['*', '/'])?;
            }
            '\'' | '"' | '`' | '[' => {
                let (text, end) = quoted(&chars, at)?;
                found.push(if c == '\'' { Token::Value } else { Token::Name(text) });
                at = end;
            }
            '?' | ':' | '@' | '$' => {
                at += 1 + chars[at + 1..].iter().take_while(|c| is_word(**c)).count();
                found.push(Token::Value);
            }
            _ if c.is_ascii_digit() || (c == '.' && next.is_some_and(|c| c.is_ascii_digit())) => {
                let len = chars[at..].iter().take_while(|c| is_word(**c) || **c == '.').count();
                found.push(Token::Number(chars[at..at + len].iter().collect()));
                at += len;
            }
            _ if is_word(c) => {
                let len = chars[at..].iter().take_while(|c| is_word(**c)).count();
                found.push(Token::Word(chars[at..at + len].iter().collect()));
                at += len;
            }
            _ => {
                found.push(Token::Symbol(c));
                at += 1;
            }
        }
    }
    Some(found)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// What stands in quotes that begin at `at`, and where they end.
fn quoted(chars: &[char], at: usize) -> Option<(String, usize)> {
    let close = if chars[at] == '[' { ']' } else { chars[at] };
    let mut text = String::new();
    let mut at = at + 1;
    loop {
        let c = *chars.get(at)?;
        at += 1;
        if c != close {
            text.push(c);
        } else if close != ']' && chars.get(at) == Some(&close) {
            text.push(close);
            at += 1;
        } else {
            return Some((text, at));
        }
    }
}
