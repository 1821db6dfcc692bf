//! First room of the PTX reader: cuts the text into tokens that carry their line, so that every
//! later error and every fault in a kernel can name the PTX line it came from.

use super::{Result, SyntaxError};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// A name: opcode with its dotted modifiers, register, symbol or label.
    Word(&'a str),
    /// A directive or modifier, without its leading dot.
    Dot(&'a str),
    /// An integer in two's complement; `unsigned` when it does not fit `i64`.
    Int(u64),
    /// `0f` literal: the bits of an f32.
    F32(u32),
    /// `0d` literal or a decimal number with a point: the bits of an f64.
    F64(u64),
    Str(&'a str),
    Punct(char),
    End,
}

pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1 }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(SyntaxError::new(self.line, what))
    }

    fn skip_blank(&mut self) -> Result<()> {
        loop {
            match (self.byte(0), self.byte(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => {
                    while !matches!(self.byte(0), b'\n' | 0) {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<()> {
        let rest = self.text.get(self.at..).unwrap_or("");
        let Some(length) = rest.find("*/") else {
            return self.error("comment without an end");
        };
        let lines = rest[..length].bytes().filter(|&b| b == b'\n').count();
        self.line += u32::try_from(lines).unwrap_or(0);
        self.at += length + 2;
        Ok(())
    }

    /// Bytes from the current position on that `accept` takes, `::` between them included.
    fn take_word(&mut self) -> &'a str {
        let start = self.at;
        loop {
            if in_word(self.byte(0)) {
                self.at += 1;
            } else if self.byte(0) == b':' && self.byte(1) == b':' {
                self.at += 2;
            } else {
                return self.text.get(start..self.at).unwrap_or("");
            }
        }
    }

    /// The next token and the line it starts on.
    pub fn token(&mut self) -> Result<(Token<'a>, u32)> {
        self.skip_blank()?;
        let line = self.line;
        let token = match self.byte(0) {
            0 => Token::End,
            b'.' => {
                self.at += 1;
                let word = self.take_word();
                let name = word.split('.').next().unwrap_or("");
                self.at -= word.len() - name.len();
                Token::Dot(name)
            }
            b'"' => self.string()?,
            byte if starts_word(byte) => Token::Word(self.take_word()),
            byte if byte.is_ascii_digit() => self.number()?,
            byte if byte.is_ascii_graphic() => {
                self.at += 1;
                Token::Punct(char::from(byte))
            }
            _ => return self.error("a byte that PTX does not use"),
        };
        Ok((token, line))
    }

    fn string(&mut self) -> Result<Token<'a>> {
        self.at += 1;
        let rest = self.text.get(self.at..).unwrap_or("");
        let Some(length) = rest.find('"') else {
            return self.error("string without an end");
        };
        self.at += length + 1;
        Ok(Token::Str(&rest[..length]))
    }

    fn number(&mut self) -> Result<Token<'a>> {
        let start = self.at;
        while in_word(self.byte(0)) {
            self.at += 1;
        }
        // A decimal exponent may carry a sign, which `in_word` does not take.
        let so_far = self.text.get(start..self.at).unwrap_or("");
        if so_far.contains('.') && so_far.ends_with(['e', 'E']) && matches!(self.byte(0), b'+' | b'-') {
            self.at += 1;
            while self.byte(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let digits = self.text.get(start..self.at).unwrap_or("");
        match number_token(digits) {
            Some(token) => Ok(token),
            None => self.error(format!("`{digits}` is not a number")),
        }
    }
}

fn number_token(digits: &str) -> Option<Token<'static>> {
    let bytes = digits.as_bytes();
    if let Some(hex) = digits.strip_prefix("0f").or(digits.strip_prefix("0F")) {
        return (hex.len() == 8).then(|| u32::from_str_radix(hex, 16).ok().map(Token::F32))?;
    }
    if let Some(hex) = digits.strip_prefix("0d").or(digits.strip_prefix("0D")) {
        return (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok().map(Token::F64))?;
    }
    if digits.contains('.') {
        return digits.parse::<f64>().ok().map(|value| Token::F64(value.to_bits()));
    }
    let digits = digits.strip_suffix('U').unwrap_or(digits);
    let value = match (bytes.first(), bytes.get(1)) {
        (Some(b'0'), Some(b'x' | b'X')) => u64::from_str_radix(digits.get(2..)?, 16),
        (Some(b'0'), Some(b'b' | b'B')) => u64::from_str_radix(digits.get(2..)?, 2),
        (Some(b'0'), Some(b'0'..=b'7')) => u64::from_str_radix(digits.get(1..)?, 8),
        _ => digits.parse(),
    };
    value.ok().map(Token::Int)
}
