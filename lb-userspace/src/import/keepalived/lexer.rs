//! Lines of keepalived.conf to tokens: comments, quotes, parameters and conditions, by the rules of
//! keepalived.conf(5). Pure.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::source::{MAX_EXPANDED, Place, Read, Word, quoted};

/// A word or a brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(Word),
    Open(Place),
    Close(Place),
}

/// How often a parameter's value may hold parameters itself, and how long a line may get.
const MAX_DEPTH: usize = 8;
const MAX_LINE: usize = 16 * 1024;

/// What earlier lines defined.
pub(crate) struct Lexer<'a> {
    pub(crate) file: &'a Rc<str>,
    /// keepalived's config-id: on whose lines with `@` depend.
    pub(crate) id: Option<&'a str>,
    parameters: BTreeMap<String, String>,
    /// How much text parameters have made so far, in bytes.
    expanded: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(file: &'a Rc<str>, id: Option<&'a str>) -> Self {
        Self { file, id, parameters: BTreeMap::new(), expanded: 0 }
    }

    /// The tokens of one line; none if it is empty, a comment, a definition or for another host.
    pub(crate) fn tokens(&mut self, number: u32, text: &str) -> Read<Vec<Token>> {
        let text = uncommented(text);
        let indent = text.chars().take_while(|c| c.is_whitespace()).count();
        let column = u32::try_from(indent).unwrap_or(u32::MAX).saturating_add(1);
        let place = Place::new(self.file, number, column);
        let rest = text.trim();
        if let Some(rest) = rest.strip_prefix('@') {
            return self.conditional(rest, &place);
        }
        if self.define(rest, &place)? {
            return Ok(Vec::new());
        }
        if rest.starts_with('~') {
            return Err(
                place.error("sequences are not expanded; expected the lines they stand for")
            );
        }
        let expanded = self.expand(text, &place)?;
        // Columns mean nothing in a line that was replaced.
        let column = (expanded != text).then_some(place.column);
        cut(&expanded, &Place::new(self.file, number, 1), column)
    }

    /// `@ID rest` and `@^ID rest`, after the `@`.
    fn conditional(&mut self, text: &str, place: &Place) -> Read<Vec<Token>> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (name, is_negative) = name.strip_prefix('^').map_or((name, false), |it| (it, true));
        let Some(id) = self.id else {
            let name = quoted(name);
            return Err(place.error(format_args!(
                "the line depends on the host's name ({name}); expected --config-id with the name \
                 of the host that this configuration is for"
            )));
        };
        if (id == name) == is_negative {
            return Ok(Vec::new());
        }
        if self.define(rest.trim(), place)? {
            return Ok(Vec::new());
        }
        let expanded = self.expand(rest, place)?;
        cut(&expanded, place, Some(place.column))
    }

    /// Remembers `$NAME=VALUE`; whether the line is one.
    fn define(&mut self, text: &str, place: &Place) -> Read<bool> {
        let Some((name, value)) = text.strip_prefix('$').and_then(|rest| rest.split_once('='))
        else {
            return Ok(false);
        };
        if !is_name(name) {
            return Ok(false);
        }
        if value.ends_with('\\') {
            return Err(place.error(
                "a parameter of several lines is not expanded; expected the lines themselves",
            ));
        }
        self.parameters.insert(name.to_owned(), value.trim().to_owned());
        Ok(true)
    }

    /// The line with its parameters replaced; those that are not defined stay.
    fn expand(&mut self, text: &str, place: &Place) -> Read<String> {
        let mut text = text.to_owned();
        for _ in 0..MAX_DEPTH {
            let (expanded, is_changed) = self.expand_once(&text);
            if expanded.len() > MAX_LINE {
                return Err(place.error("the line is too long; expected at most 16 KiB"));
            }
            text = expanded;
            self.expanded += if is_changed { text.len() } else { 0 };
            if self.expanded > MAX_EXPANDED {
                return Err(
                    place.error("parameters make the file too large; expected shorter ones")
                );
            }
            if !is_changed {
                return Ok(text);
            }
        }
        Err(place.error("parameters refer to each other too deeply; expected at most 8 levels"))
    }

    fn expand_once(&self, text: &str) -> (String, bool) {
        let mut expanded = String::new();
        let mut rest = text;
        let mut is_changed = false;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, tail) = match after.strip_prefix('{').and_then(|it| it.split_once('}')) {
                Some((name, tail)) => (name, tail),
                None => {
                    let end = after.find(|c: char| !is_name_char(c)).unwrap_or(after.len());
                    after.split_at(end)
                }
            };
            let value = match name {
                "_HASH" => Some("#"),
                "_BANG" => Some("!"),
                _ => self.parameters.get(name).map(String::as_str),
            };
            match value {
                Some(value) => {
                    expanded.push_str(value);
                    rest = tail;
                    is_changed = true;
                }
                None => {
                    expanded.push('$');
                    rest = after;
                }
            }
            if expanded.len() > MAX_LINE {
                break;
            }
        }
        expanded.push_str(rest);
        (expanded, is_changed)
    }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(is_name_char)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// What precedes a comment, which starts anywhere outside quotes.
fn uncommented(text: &str) -> &str {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if is_escaped => is_escaped = false,
            ('\\', _) => is_escaped = true,
            ('#' | '!', None) => return &text[..at],
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    text
}

/// Words and braces; `column` is that of all words when the text is not the file's own.
fn cut(text: &str, start: &Place, column: Option<u32>) -> Read<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = (start.column..).zip(text.chars()).peekable();
    let place = |at: u32| Place { column: column.unwrap_or(at), ..start.clone() };
    while let Some((at, c)) = chars.next() {
        match c {
            '{' | '}' if !word.as_ref().is_some_and(|word| word.text.contains('$')) => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' {
                    Token::Open(place(at))
                } else {
                    Token::Close(place(at))
                });
            }
            '"' | '\'' => {
                let word = word.get_or_insert_with(|| Word::new("", place(at)));
                let mut is_closed = false;
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' => word.text.extend(chars.next().map(|(_, c)| c)),
                        inner if inner == c => {
                            is_closed = true;
                            break;
                        }
                        inner => word.text.push(inner),
                    }
                }
                if !is_closed {
                    let message = "this quote is not closed; expected it before the line ends";
                    return Err(place(at).error(message));
                }
            }
            c if c.is_whitespace() => tokens.extend(word.take().map(Token::Word)),
            c => {
                let c = if c == '\\' { chars.next().map_or('\\', |(_, c)| c) } else { c };
                word.get_or_insert_with(|| Word::new("", place(at))).text.push(c);
            }
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(lines: &str, id: Option<&str>) -> Read<String> {
        let file = Rc::from("f");
        let mut lexer = Lexer::new(&file, id);
        let mut shown = Vec::new();
        for (number, line) in (1..).zip(lines.lines()) {
            for token in lexer.tokens(number, line)? {
                shown.push(match token {
                    Token::Word(word) => word.text,
                    Token::Open(_) => "<".to_owned(),
                    Token::Close(_) => ">".to_owned(),
                });
            }
        }
        Ok(shown.join("|"))
    }

    #[rstest]
    #[case::plain("vrrp_instance VI_1 {\n}", "vrrp_instance|VI_1|<|>")]
    #[case::tight("a{b}c", "a|<|b|>|c")]
    #[case::comments("a ! b\n# c\nd#e", "a|d")]
    #[case::quotes("notify \"/a b\" 'c\"d' e\"f g\"h", "notify|/a b|c\"d|ef gh")]
    #[case::quoted_comment("auth_pass \"a#b!c\"", "auth_pass|a#b!c")]
    #[case::escapes(r#"a \"b "c\"d""#, "a|\"b|c\"d")]
    #[case::parameters("$P=240\npriority $P\nx${P}y $Q ${Q}", "priority|240|x240y|$Q|${Q}")]
    #[case::nested(
        "$A=10.2.${B}\n$B=0\n${A}.100/32\n$B=10\n${A}.100/32",
        "10.2.0.100/32|10.2.10.100/32"
    )]
    #[case::predefined("a${_HASH}b", "a#b")]
    #[case::conditions("@main a\n@other b\n@^main c\n@^other d\n@main $P=1\n$P", "a|d|1")]
    fn lines_are_cut(#[case] lines: &str, #[case] expected: &str) {
        assert_eq!(shown(lines, Some("main")).unwrap(), expected);
    }

    #[rstest]
    #[case(
        "a\n  @main b",
        "f:2:3: the line depends on the host's name (`main`); expected --config"
    )]
    #[case("a \"b", "f:1:3: this quote is not closed")]
    #[case("$A= \\", "f:1:1: a parameter of several lines is not expanded")]
    #[case(" ~SEQ(A, 1, 3) x", "f:1:2: sequences are not expanded")]
    #[case("$A=${B}\n$B=${A}\n$A", "f:3:1: parameters refer to each other too deeply")]
    fn what_cannot_be_read_has_its_place(#[case] lines: &str, #[case] expected: &str) {
        let error = shown(lines, None).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn parameters_cannot_grow_without_bound() {
        let mut lines = "$A=xxxxxxxxxxxxxxxx\n".to_owned();
        for (name, of) in [("B", "A"), ("C", "B"), ("D", "C"), ("E", "D")] {
            lines += &format!("${name}={}\n", format!("${{{of}}}").repeat(64));
        }
        let error = shown(&(lines + "$E"), None).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }
}
