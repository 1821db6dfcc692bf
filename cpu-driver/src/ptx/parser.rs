//! Second room of the PTX reader: module directives, variables, initialisers and function headers.
//! Function bodies are read by `body`, on the same cursor.

use super::ast::{Function, Init, Linkage, Module, Variable};
use super::lexer::{Lexer, Token};
use super::types::{Space, Type};
use super::{Result, SyntaxError};

/// Parses the PTX modules of a text, each of which begins with `.version`: one, or, in what a link
/// made, all that were linked.
///
/// # Errors
/// The first place where `text` is not PTX as this reader knows it.
pub fn parse(text: &str) -> Result<Vec<Module<'_>>> {
    let mut parser = Parser::new(text)?;
    let mut modules = Vec::new();
    while parser.token != Token::End {
        if parser.token == Token::Dot("version") {
            parser.take()?;
            modules.push(Module { version: parser.version()?, ..Module::default() });
        } else if let Some(module) = modules.last_mut() {
            parser.item(module)?;
        } else {
            return parser.error("no .version directive");
        }
    }
    if modules.is_empty() {
        return parser.error("no .version directive");
    }
    Ok(modules)
}

/// Pragma by which a link hands on the JIT option that bounds registers.
pub const MAX_REGISTERS: &str = "paravane maxnreg ";

/// A cursor over the tokens: the current one, and the lexer behind it.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    pub(super) token: Token<'a>,
    pub(super) line: u32,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let (token, line) = lexer.token()?;
        Ok(Self { lexer, token, line })
    }

    /// Takes the current token and moves to the next.
    pub(super) fn take(&mut self) -> Result<Token<'a>> {
        let taken = self.token;
        (self.token, self.line) = self.lexer.token()?;
        Ok(taken)
    }

    pub(super) fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(SyntaxError::new(self.line, what))
    }

    pub(super) fn at(&self, punct: char) -> bool {
        self.token == Token::Punct(punct)
    }

    /// Takes `punct` if it is there.
    pub(super) fn take_if(&mut self, punct: char) -> Result<bool> {
        let there = self.at(punct);
        if there {
            self.take()?;
        }
        Ok(there)
    }

    pub(super) fn expect(&mut self, punct: char) -> Result<()> {
        if self.take_if(punct)? {
            return Ok(());
        }
        self.error(format!("`{punct}` expected, found {:?}", self.token))
    }

    pub(super) fn word(&mut self) -> Result<&'a str> {
        match self.take()? {
            Token::Word(word) => Ok(word),
            other => self.error(format!("a name expected, found {other:?}")),
        }
    }

    pub(super) fn int(&mut self) -> Result<u64> {
        let negative = self.take_if('-')?;
        match self.take()? {
            Token::Int(value) if negative => Ok(value.wrapping_neg()),
            Token::Int(value) => Ok(value),
            other => self.error(format!("an integer expected, found {other:?}")),
        }
    }

    fn int_u32(&mut self) -> Result<u32> {
        let value = self.int()?;
        u32::try_from(value).or_else(|_| self.error(format!("{value} is too large here")))
    }

    fn item(&mut self, module: &mut Module<'a>) -> Result<()> {
        let Token::Dot(directive) = self.token else {
            return self.error(format!("a directive expected, found {:?}", self.token));
        };
        match directive {
            "target" => {
                self.take()?;
                module.target = self.target()?;
            }
            "address_size" => {
                self.take()?;
                if self.int()? != 64 {
                    return self.error("only .address_size 64 is executed");
                }
            }
            "alias" => {
                self.take()?;
                let name = self.word()?;
                self.expect(',')?;
                module.aliases.push((name, self.word()?));
                self.expect(';')?;
            }
            "pragma" => {
                self.take()?;
                let limit = match self.token {
                    Token::Str(text) => text.strip_prefix(MAX_REGISTERS).and_then(|n| n.parse().ok()),
                    _ => None,
                };
                module.max_registers = limit.or(module.max_registers);
                while !self.take_if(';')? && self.token != Token::End {
                    self.take()?;
                }
            }
            "file" | "section" | "loc" => self.skip_directive()?,
            _ => self.definition(module)?,
        }
        Ok(())
    }

    fn version(&mut self) -> Result<u32> {
        match self.take()? {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "versions are small and positive")]
            Token::F64(bits) => Ok((f64::from_bits(bits) * 10.0).round() as u32),
            other => self.error(format!("a version expected, found {other:?}")),
        }
    }

    fn target(&mut self) -> Result<u32> {
        let name = self.word()?;
        while self.take_if(',')? {
            self.word()?;
        }
        let digits = name.strip_prefix("sm_").map(|rest| rest.trim_end_matches(['a', 'f']));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(target) => Ok(target),
            None => self.error(format!("target `{name}` is not sm_NN")),
        }
    }

    /// Skips a directive that says nothing about execution.
    pub(super) fn skip_directive(&mut self) -> Result<()> {
        match self.take()? {
            Token::Dot("section") => {
                self.take()?;
                self.expect('{')?;
                while !self.take_if('}')? {
                    if self.token == Token::End {
                        return self.error("section without an end");
                    }
                    self.take()?;
                }
            }
            Token::Dot("loc" | "file") => {
                while matches!(self.token, Token::Int(_) | Token::Str(_)) {
                    self.take()?;
                }
                while self.take_if(',')? {
                    while matches!(self.token, Token::Int(_) | Token::Str(_)) || self.loc_word() {
                        self.take()?;
                    }
                }
            }
            _ => {
                while !self.take_if(';')? {
                    if self.token == Token::End {
                        return self.error("directive without `;`");
                    }
                    self.take()?;
                }
            }
        }
        Ok(())
    }

    /// Whether the token continues a `.loc`: `function_name LABEL`, `inlined_at F L C`.
    fn loc_word(&self) -> bool {
        match self.token {
            Token::Word(word) => {
                word == "function_name" || word == "inlined_at" || word.starts_with("$L__info_string")
            }
            Token::Punct('+') => true,
            _ => false,
        }
    }

    fn definition(&mut self, module: &mut Module<'a>) -> Result<()> {
        let mut linkage = Linkage::default();
        loop {
            let Token::Dot(directive) = self.token else {
                return self.error(format!("a definition expected, found {:?}", self.token));
            };
            match directive {
                "extern" => linkage = Linkage::Extern,
                "visible" => linkage = Linkage::Visible,
                "weak" => linkage = Linkage::Weak,
                "common" => linkage = Linkage::Common,
                "entry" | "func" => {
                    let mut function = self.function(directive == "entry")?;
                    function.linkage = linkage;
                    module.functions.push(function);
                    return Ok(());
                }
                "global" | "const" | "shared" => {
                    for mut variable in self.variables()? {
                        variable.linkage = linkage;
                        module.variables.push(variable);
                    }
                    return Ok(());
                }
                _ => return self.error(format!("directive `.{directive}` is not known")),
            }
            self.take()?;
        }
    }

    /// `.space [.align N] [.v2|.v4] .type name[dims] [= init] {, name …} ;`
    pub(super) fn variables(&mut self) -> Result<Vec<Variable<'a>>> {
        let mut all = Vec::new();
        let first = self.variable()?;
        all.push(first);
        while self.take_if(',')? {
            let mut next = all[0].clone();
            next.line = self.line;
            next.name = self.word()?;
            next.size = u64::from(next.ty.size());
            self.dimensions(&mut next)?;
            next.init = self.initialiser(next.ty)?;
            all.push(next);
        }
        self.expect(';')?;
        Ok(all)
    }

    /// One variable or parameter, up to its initialiser.
    fn variable(&mut self) -> Result<Variable<'a>> {
        let line = self.line;
        let space = match self.take()? {
            Token::Dot(name) => Space::from_name(name),
            _ => None,
        };
        let Some(space) = space else {
            return self.error("a state space expected");
        };
        let (mut align, mut elements, mut ty, mut is_managed) = (1, 1, None, false);
        while let Token::Dot(name) = self.token {
            self.take()?;
            match name {
                "align" => align = self.int_u32()?,
                "v2" => elements = 2,
                "v4" => elements = 4,
                "attribute" => is_managed |= self.attributes()?,
                "ptr" | "global" | "const" | "shared" | "local" => {}
                _ => match Type::from_name(name) {
                    Some(found) => ty = Some(found),
                    None => return self.error(format!("`.{name}` in a declaration is not known")),
                },
            }
        }
        let Some(ty) = ty else {
            return self.error("a declaration without a type");
        };
        let name = if matches!(self.token, Token::Word(_)) { self.word()? } else { "_" };
        let size = u64::from(ty.size()) * elements;
        let least_align = u32::try_from(size).unwrap_or(16).min(16);
        let (align, linkage, init) = (align.max(least_align), Linkage::Private, vec![]);
        let mut variable = Variable { name, line, space, ty, align, size, linkage, is_managed, init };
        self.dimensions(&mut variable)?;
        variable.init = self.initialiser(ty)?;
        Ok(variable)
    }

    /// Attributes of a variable, in parentheses; whether `.managed` is among them.
    fn attributes(&mut self) -> Result<bool> {
        self.expect('(')?;
        let mut is_managed = false;
        while !self.take_if(')')? {
            if self.token == Token::End {
                return self.error("`)` missing");
            }
            is_managed |= self.token == Token::Dot("managed");
            self.take()?;
        }
        Ok(is_managed)
    }

    fn dimensions(&mut self, variable: &mut Variable<'a>) -> Result<()> {
        while self.take_if('[')? {
            let count = if self.at(']') { 0 } else { self.int()? };
            self.expect(']')?;
            variable.size = match variable.size.checked_mul(count) {
                Some(size) => size,
                None => return self.error(format!("variable `{}` is too large", variable.name)),
            };
        }
        Ok(())
    }

    fn initialiser(&mut self, ty: Type) -> Result<Vec<Init<'a>>> {
        let mut values = Vec::new();
        if self.take_if('=')? {
            self.initialiser_value(ty, &mut values)?;
        }
        Ok(values)
    }

    fn initialiser_value(&mut self, ty: Type, values: &mut Vec<Init<'a>>) -> Result<()> {
        if self.take_if('{')? {
            while !self.take_if('}')? {
                self.initialiser_value(ty, values)?;
                if !self.take_if(',')? && !self.at('}') {
                    return self.error("`,` or `}` expected in an initialiser");
                }
            }
            return Ok(());
        }
        let value = match self.token {
            Token::Word(name) => {
                self.take()?;
                let target = if name == "generic" {
                    self.expect('(')?;
                    let target = self.word()?;
                    self.expect(')')?;
                    target
                } else {
                    name
                };
                let offset = if self.take_if('+')? { self.int()? } else { 0 };
                Init::Address(target, offset.cast_signed())
            }
            _ => Init::Bits(self.constant(ty)?),
        };
        values.push(value);
        Ok(())
    }

    /// A number as the bits of a `ty`.
    fn constant(&mut self, ty: Type) -> Result<u64> {
        let negative = self.take_if('-')?;
        let token = self.take()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "PTX rounds literals to their type")]
        let bits = match (token, ty) {
            (Token::F32(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Token::F32(bits), _) => u64::from(bits),
            (Token::F64(bits), Type::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            (Token::F64(bits), _) => bits,
            (Token::Int(value), Type::F32) => u64::from((value as f32).to_bits()),
            (Token::Int(value), Type::F64) => (value as f64).to_bits(),
            (Token::Int(value), _) => return Ok(if negative { value.wrapping_neg() } else { value }),
            (other, _) => return self.error(format!("a constant expected, found {other:?}")),
        };
        let sign = 1u64 << (ty.size() * 8 - 1).min(63);
        Ok(if negative { bits ^ sign } else { bits })
    }

    fn parameters(&mut self) -> Result<Vec<Variable<'a>>> {
        let mut params = Vec::new();
        if self.take_if('(')? {
            while !self.take_if(')')? {
                params.push(self.variable()?);
                if !self.take_if(',')? && !self.at(')') {
                    return self.error("`,` or `)` expected in a parameter list");
                }
            }
        }
        Ok(params)
    }

    /// Returns and parameters of a `.callprototype`, up to and with its `;`.
    pub(super) fn prototype(&mut self) -> Result<(Vec<Variable<'a>>, Vec<Variable<'a>>)> {
        let returns = self.parameters()?;
        self.word()?;
        let params = self.parameters()?;
        while !self.take_if(';')? {
            if self.token == Token::End {
                return self.error("prototype without `;`");
            }
            self.take()?;
        }
        Ok((returns, params))
    }

    fn function(&mut self, is_entry: bool) -> Result<Function<'a>> {
        let line = self.line;
        self.take()?;
        let returns = self.parameters()?;
        let name = self.word()?;
        let params = self.parameters()?;
        let mut function =
            Function {
                name,
                line,
                linkage: Linkage::Private,
                is_entry,
                returns,
                params,
                max_threads: None,
                required_block: None,
                max_registers: None,
                body: None,
            };
        while let Token::Dot(directive) = self.token {
            self.take()?;
            let mut numbers = Vec::new();
            while matches!(self.token, Token::Int(_)) {
                numbers.push(self.int_u32()?);
                self.take_if(',')?;
            }
            let product = numbers.iter().copied().fold(1u32, u32::saturating_mul);
            match directive {
                "maxnreg" => function.max_registers = Some(product),
                "maxntid" => function.max_threads = Some(product),
                "reqntid" => {
                    function.max_threads = Some(product);
                    numbers.resize(3, 1);
                    function.required_block = numbers.try_into().ok();
                }
                "pragma" => while !self.take_if(';')? && self.token != Token::End {
                    self.take()?;
                },
                _ => {}
            }
        }
        if !self.take_if(';')? {
            let header: Vec<Variable<'a>> = function.params.iter().chain(&function.returns).cloned().collect();
            function.body = Some(self.body(&header)?);
        }
        Ok(function)
    }
}
