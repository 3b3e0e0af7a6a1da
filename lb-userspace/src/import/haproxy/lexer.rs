//! Lines of haproxy.cfg to words: quotes, escapes, comments and environment variables, by the rules
//! of section 2.2 and 2.3 of HAProxy's configuration manual. Pure.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::source::{Place, Read, Word};

/// What `"$NAME"` stands for.
pub(crate) type Environment = BTreeMap<String, String>;

/// Variables may hold others, and so grow fast.
const MAX_WORD: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    /// `"`: escapes and variables mean something; opened in this column.
    Weak(u32),
    /// `'`: nothing does.
    Strong(u32),
}

/// The words of one line; none if it is empty or a comment.
pub(crate) fn words(
    file: &Rc<str>,
    number: u32,
    text: &str,
    environment: &Environment,
) -> Read<Vec<Word>> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer {
        file,
        number,
        chars: &chars,
        next: 0,
        quote: Quote::None,
        current: None,
        words: Vec::new(),
        environment,
    };
    lexer.run()?;
    Ok(lexer.words)
}

struct Lexer<'a> {
    file: &'a Rc<str>,
    number: u32,
    chars: &'a [char],
    next: usize,
    quote: Quote,
    /// The word being read.
    current: Option<Word>,
    words: Vec<Word>,
    environment: &'a Environment,
}

impl Lexer<'_> {
    fn run(&mut self) -> Read<()> {
        while let Some(c) = self.peek(0) {
            match (c, self.quote) {
                ('#', Quote::None) => break,
                (c, Quote::None) if c.is_ascii_whitespace() => {
                    self.next += 1;
                    self.end_word();
                }
                ('"', Quote::None) => self.open(Quote::Weak(self.column())),
                ('\'', Quote::None) => self.open(Quote::Strong(self.column())),
                ('"', Quote::Weak(_)) | ('\'', Quote::Strong(_)) => {
                    self.next += 1;
                    self.quote = Quote::None;
                }
                ('\\', Quote::None | Quote::Weak(_)) => self.escape()?,
                ('$', Quote::Weak(_)) => self.variable()?,
                (c, _) => {
                    self.push(c);
                    self.next += 1;
                }
            }
        }
        match self.quote {
            Quote::Weak(column) => Err(self.unclosed(column, '"')),
            Quote::Strong(column) => Err(self.unclosed(column, '\'')),
            Quote::None => {
                self.end_word();
                Ok(())
            }
        }
    }

    fn unclosed(&self, column: u32, quote: char) -> super::super::ImportError {
        let message = format!("this quote is not closed; expected {quote} before the line ends");
        Place::new(self.file, self.number, column).error(message)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.next + ahead).copied()
    }

    fn column(&self) -> u32 {
        u32::try_from(self.next).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn place(&self) -> Place {
        Place::new(self.file, self.number, self.column())
    }

    /// The word being read, which starts here unless it has already.
    fn word(&mut self) -> &mut Word {
        let place = self.place();
        self.current.get_or_insert_with(|| Word::new("", place))
    }

    fn push(&mut self, c: char) {
        self.word().text.push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.current.take());
    }

    fn open(&mut self, quote: Quote) {
        // An empty pair of quotes is a word too.
        self.word();
        self.next += 1;
        self.quote = quote;
    }

    /// What is no escape keeps its backslash.
    fn escape(&mut self) -> Read<()> {
        let (c, length) = match self.peek(1) {
            Some(c @ (' ' | '\t' | '\\' | '#' | '\'' | '"' | '$')) => (c, 2),
            Some('n') => ('\n', 2),
            Some('r') => ('\r', 2),
            Some('t') => ('\t', 2),
            Some('x') => {
                let digit = |at| self.peek(at).and_then(|c| c.to_digit(16));
                let (Some(high), Some(low)) = (digit(2), digit(3)) else {
                    return Err(self.place().error("expected two hexadecimal digits after \\x"));
                };
                (char::from_u32(high * 16 + low).unwrap_or_default(), 4)
            }
            Some(_) | None => ('\\', 1),
        };
        self.push(c);
        self.next += length;
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}` or `${NAME[*]}`, at its dollar.
    fn variable(&mut self) -> Read<()> {
        let place = self.place();
        let braced = self.peek(1) == Some('{');
        let mut at = if braced { 2 } else { 1 };
        let start = at;
        while self.peek(at).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            at += 1;
        }
        let name: String = self.chars[self.next + start..self.next + at].iter().collect();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(place.error("expected the name of a variable after $, or \\$"));
        }
        let mut default = None;
        let mut is_list = false;
        if braced {
            let rest: String = self.chars[self.next + at..].iter().collect();
            let Some((suffix, _)) = rest.split_once('}') else {
                return Err(place.error("expected } after the name of the variable"));
            };
            at += suffix.chars().count() + 1;
            match suffix {
                "" => {}
                "[*]" => is_list = true,
                _ => match suffix.strip_prefix('-') {
                    Some(text) => default = Some(text.to_owned()),
                    None => return Err(place.error("expected }, - or [*] after the name")),
                },
            }
        }
        self.word();
        match self.environment.get(&name).cloned().or(default) {
            Some(value) if is_list => self.list(&value),
            Some(value) => self.word().text.push_str(&value),
            None => {
                let word = self.word();
                word.text.push_str(&format!("${{{name}}}"));
                word.unset = Some(name);
            }
        }
        self.next += at;
        if self.current.as_ref().is_some_and(|word| word.text.len() > MAX_WORD) {
            return Err(place.error("variables make the word too long; expected at most 64 KiB"));
        }
        Ok(())
    }

    /// Each value of a list is a word of its own.
    fn list(&mut self, value: &str) {
        for (index, part) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                self.end_word();
            }
            self.word().text.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn split(text: &str) -> Read<Vec<Word>> {
        let environment = [("A", "one two"), ("B", "b"), ("E", "")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        words(&Rc::from("f"), 1, text, &environment.into())
    }

    #[rstest]
    #[case::plain("  bind\t*:6443  ", &["bind", "*:6443"])]
    #[case::empty("   ", &[])]
    #[case::comment("a b#c d", &["a", "b"])]
    #[case::escaped_hash(r"a\#b \\ c\ d", &["a#b", r"\", "c d"])]
    #[case::weak(r#"a "b # c" d"e"f"#, &["a", "b # c", "def"])]
    #[case::strong(r#"'$B "x" \n' y"#, &[r#"$B "x" \n"#, "y"])]
    #[case::other_quote(r#""it's" '"'"#, &["it's", "\""])]
    #[case::escaped_quotes(r#"\"a\" "\"" \'"#, &["\"a\"", "\"", "'"])]
    #[case::characters(r"a\r\nb \x41\x20c", &["a\r\nb", "A c"])]
    #[case::no_escape(r"a\1 \d \", &[r"a\1", r"\d", r"\"])]
    #[case::empty_word("a '' \"\"", &["a", "", ""])]
    #[case::variables(r#""$B" "x${B}y" "${B-z}" "${N-z}" "$E" ${B}"#,
        &["b", "xby", "b", "z", "", "${B}"])]
    #[case::list(r#"a "${A[*]}" b"#, &["a", "one", "two", "b"])]
    #[case::not_a_list(r#""$A""#, &["one two"])]
    #[case::dollar(r#""\$B""#, &["$B"])]
    fn words_are_cut(#[case] text: &str, #[case] expected: &[&str]) {
        let words = split(text).unwrap();
        let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(words, expected);
    }

    #[rstest]
    #[case("a \"b", "f:1:3: this quote is not closed; expected \" before the line ends")]
    #[case("'", "f:1:1: this quote is not closed; expected ' before the line ends")]
    #[case("\\xg0", "f:1:1: expected two hexadecimal digits after \\x")]
    #[case("\"$1\"", "f:1:2: expected the name of a variable after $, or \\$")]
    #[case("\"${B\"", "f:1:2: expected } after the name of the variable")]
    #[case("\"${B+}\"", "f:1:2: expected }, - or [*] after the name")]
    fn mistakes_have_their_place(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(split(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn columns_count_characters_and_unset_variables_are_remembered() {
        let words = split("  \u{e9}\u{e9} \"x${NONE}\"").unwrap();
        let columns: Vec<u32> = words.iter().map(|word| word.at.column).collect();
        assert_eq!(columns, [3, 6]);
        assert_eq!(words[1].text, "x${NONE}");
        assert_eq!(words[1].unset.as_deref(), Some("NONE"));
    }
}
