//! Tokens of keepalived.conf to nested blocks. Pure.

use std::rc::Rc;

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Word, decode, numbered, quoted};
use super::lexer::{Lexer, Token};

/// A line, with the block that it opens.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Never empty.
    pub(crate) words: Vec<Word>,
    /// What is between its braces; empty without.
    pub(crate) children: Vec<Self>,
    pub(crate) is_block: bool,
}

impl Node {
    pub(crate) fn keyword(&self) -> &Word {
        // `Tree` makes no node without words.
        &self.words[0]
    }

    pub(crate) fn name(&self) -> &str {
        &self.words[0].text
    }

    pub(crate) fn text(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| word.text.as_str())
    }

    /// A word that must be there.
    pub(crate) fn required(&self, index: usize, expected: &str) -> Read<&Word> {
        self.words.get(index).ok_or_else(|| {
            let last = &self.words[self.words.len() - 1];
            let after = quoted(&last.text);
            last.at.error(format_args!("the line ends after {after}; expected {expected}"))
        })
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|node| node.name() == name)
    }
}

/// Deeper than any block of keepalived's.
const MAX_DEPTH: usize = 16;

/// Blocks that are open, and what is in them so far.
struct Tree {
    roots: Vec<Node>,
    /// The heads of open blocks, and where they open.
    open: Vec<(Node, Place)>,
    /// Words of the line being read.
    words: Vec<Word>,
}

/// The blocks of a file.
pub(crate) fn blocks(
    file: &Rc<str>,
    bytes: &[u8],
    id: Option<&str>,
    findings: &mut Findings,
) -> Read<Vec<Node>> {
    let text = decode(file, bytes)?;
    let mut lexer = Lexer::new(file, id);
    let mut tree = Tree { roots: Vec::new(), open: Vec::new(), words: Vec::new() };
    for (number, line) in numbered(&text) {
        for token in lexer.tokens(number, line)? {
            tree.token(token)?;
        }
        tree.end_line(findings);
    }
    match tree.open.pop() {
        None => Ok(tree.roots),
        Some((node, at)) => {
            let name = quoted(node.name());
            Err(at.error(format_args!("the block of {name} is not closed; expected }}")))
        }
    }
}

impl Tree {
    fn token(&mut self, token: Token) -> Read<()> {
        match token {
            Token::Word(word) => self.words.push(word),
            Token::Open(at) => self.open(at)?,
            Token::Close(at) => self.close(&at)?,
        }
        Ok(())
    }

    /// The block of the words before it, or of the line before it.
    fn open(&mut self, at: Place) -> Read<()> {
        if self.open.len() >= MAX_DEPTH {
            return Err(at.error("too many blocks in one another; expected at most 16"));
        }
        let mut words = std::mem::take(&mut self.words);
        if words.is_empty() {
            match self.siblings().pop() {
                Some(node) if !node.is_block => words = node.words,
                _ => return Err(at.error("expected a name before {")),
            }
        }
        self.open.push((Node { words, children: Vec::new(), is_block: true }, at));
        Ok(())
    }

    fn close(&mut self, at: &Place) -> Read<()> {
        self.flush();
        let Some((node, _)) = self.open.pop() else {
            return Err(at.error("no block is open here; expected no }"));
        };
        self.siblings().push(node);
        Ok(())
    }

    fn siblings(&mut self) -> &mut Vec<Node> {
        self.open.last_mut().map_or(&mut self.roots, |(node, _)| &mut node.children)
    }

    fn flush(&mut self) {
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.siblings().push(Node { words, children: Vec::new(), is_block: false });
        }
    }

    fn end_line(&mut self, findings: &mut Findings) {
        if let Some(word) = self.words.first().filter(|word| is_include(&word.text)) {
            let message = "the included files are not read";
            let remedy = "import each of them by itself, or put their text here and import again";
            let subject = self.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>();
            findings.add(Kind::NotCarriedOver, &word.at, &subject.join(" "), message, remedy);
            self.words.clear();
        }
        self.flush();
    }
}

fn is_include(word: &str) -> bool {
    matches!(word, "include" | "includea" | "includeb" | "includem" | "includer" | "includew")
}
