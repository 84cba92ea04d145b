//! The stack machine that runs a pickle.

use super::graph::{EMPTY, Object, Pickle, Span, Value};
use crate::budget::Budget;
use crate::cursor::Cursor;
use crate::error::{Error, Result};

/// The latest protocol.
const LATEST: u8 = 5;

pub(super) struct Machine<'a, 'm> {
    cursor: Cursor<'a>,
    /// Where the current instruction starts.
    position: usize,
    opcode: u8,
    budget: &'m mut Budget,
    stack: Vec<Value>,
    /// Stack heights.
    marks: Vec<u32>,
    memo: Vec<Option<Value>>,
    out: Pickle<'a>,
}

impl<'a, 'm> Machine<'a, 'm> {
    pub(super) fn new(bytes: &'a [u8], budget: &'m mut Budget) -> Result<Self> {
        // Indices are 32-bit, and whatever gets one takes at least a byte.
        let cut = &bytes[..bytes.len().min(u32::MAX as usize)];
        let mut out = Pickle {
            root: Value::None,
            length: 0,
            wide: Vec::new(),
            floats: Vec::new(),
            spans: Vec::new(),
            sequences: Vec::new(),
            globals: Vec::new(),
            objects: Vec::new(),
            persistent: Vec::new(),
        };
        budget.push(&mut out.sequences, Vec::new())?;
        Ok(Self {
            cursor: Cursor { bytes: cut, at: 0 },
            position: 0,
            opcode: 0,
            budget,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            out,
        })
    }

    pub(super) fn run(mut self) -> Result<Pickle<'a>> {
        loop {
            self.position = self.cursor.at;
            self.opcode = self.cursor.u8("an instruction")?;
            if self.opcode == b'.' {
                self.out.root = self.pop()?;
                self.out.length = self.cursor.at;
                return Ok(self.out);
            }
            self.step()?;
        }
    }

    fn step(&mut self) -> Result<()> {
        let what = "an instruction";
        match self.opcode {
            // PROTO, FRAME
            0x80 => match self.cursor.u8(what)? {
                0..=LATEST => Ok(()),
                found => Err(Error::Protocol { found }),
            },
            0x95 => self.cursor.take(8, what).map(|_| ()),
            // MARK, POP, POP_MARK, DUP
            b'(' => self.budget.push(&mut self.marks, self.stack.len() as u32),
            b'0' if self.marks.last().is_some_and(|&mark| mark as usize == self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
                Ok(())
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT1, BININT2, BININT, LONG1, LONG4, BINFLOAT
            b'K' => {
                let value = self.cursor.u8(what)?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = self.cursor.u16(what)?;
                self.push(Value::Int(value.into()))
            }
            b'J' => {
                let value = self.cursor.u32(what)?;
                self.push(Value::Int(value as i32))
            }
            0x8a | 0x8b => {
                let length = self.number()?;
                self.long(length)
            }
            b'G' => {
                let value = self.cursor.u64(what)?;
                // The only big-endian number.
                self.float(f64::from_bits(value.swap_bytes()))
            }
            // INT, LONG, FLOAT, STRING, UNICODE: text up to the end of the line
            b'I' | b'L' => self.decimal(),
            b'F' => {
                let index = self.line()?;
                let value = self.out.text(index).and_then(|text| text.parse().ok());
                let value = value.ok_or_else(|| self.needs("a float as text"))?;
                self.float(value)
            }
            b'S' | b'V' => self.quoted(),
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' | 0x8c | 0x8d => {
                let length = self.number()?;
                self.text(length)
            }
            // BINSTRING, BINBYTES; SHORT_BINSTRING, SHORT_BINBYTES; BINBYTES8, BYTEARRAY8
            b'T' | b'B' | b'U' | b'C' | 0x8e | 0x96 => {
                let length = self.number()?;
                self.bytes(length)
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE, EMPTY_LIST, EMPTY_DICT
            b')' => self.push(Value::Tuple(EMPTY)),
            0x85..=0x87 => {
                let start = self.below_top(usize::from(self.opcode - 0x84))?;
                let index = self.sequence_from(start)?;
                self.push(Value::Tuple(index))
            }
            b't' => {
                let mark = self.mark()?;
                let index = if mark == self.stack.len() { EMPTY } else { self.sequence_from(mark)? };
                self.push(Value::Tuple(index))
            }
            b']' => {
                let index = self.sequence()?;
                self.push(Value::List(index))
            }
            b'}' => {
                let index = self.sequence()?;
                self.push(Value::Dict(index))
            }
            // LIST, DICT, EMPTY_SET, FROZENSET
            b'l' => {
                let mark = self.mark()?;
                let index = self.sequence_from(mark)?;
                self.push(Value::List(index))
            }
            b'd' => {
                let mark = self.mark()?;
                if (self.stack.len() - mark) % 2 == 1 {
                    return Err(self.needs("a value for each key"));
                }
                let index = self.sequence_from(mark)?;
                self.push(Value::Dict(index))
            }
            0x8f => {
                let index = self.sequence()?;
                self.push(Value::Set(index))
            }
            0x91 => {
                let mark = self.mark()?;
                let index = self.sequence_from(mark)?;
                self.push(Value::Set(index))
            }
            // APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS
            b'a' => {
                let start = self.below_top(1)?;
                self.append(start)
            }
            b'e' | 0x90 => {
                let mark = self.mark()?;
                self.append(mark)
            }
            b's' => {
                let start = self.below_top(2)?;
                self.set_items(start)
            }
            b'u' => {
                let mark = self.mark()?;
                self.set_items(mark)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                let global = self.global(module, name)?;
                self.push(global)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    let global = self.global(module, name)?;
                    self.push(global)
                }
                _ => Err(self.needs("two strings")),
            },
            // REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ: calls
            b'R' | 0x81 => self.call(),
            0x92 => {
                // The keyword arguments; the positional ones are below.
                self.pop()?;
                self.call()
            }
            b'i' => {
                let module = self.line()?;
                let name = self.line()?;
                let function = self.global(module, name)?;
                let mark = self.mark()?;
                let arguments = self.sequence_from(mark)?;
                self.object(function, Value::Tuple(arguments))
            }
            b'o' => {
                let mark = self.mark()?;
                let function = *self.stack.get(mark).ok_or_else(|| self.needs("a class"))?;
                let arguments = self.sequence_from(mark + 1)?;
                self.stack.truncate(mark);
                self.object(function, Value::Tuple(arguments))
            }
            // BUILD, BINPERSID
            b'b' => {
                let state = self.pop()?;
                // Nothing reads the state of any other value.
                if let Value::Object(index) = self.top()? {
                    self.out.objects[index as usize].state = state;
                }
                Ok(())
            }
            b'Q' => {
                let id = self.pop()?;
                let index = self.out.persistent.len() as u32;
                self.budget.push(&mut self.out.persistent, id)?;
                self.push(Value::Persistent(index))
            }
            // READONLY_BUFFER does not change the bytes.
            0x98 => self.top().map(|_| ()),
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE; GET, BINGET, LONG_BINGET
            b'p' | b'q' | b'r' => {
                let index = self.number()?;
                self.put(index)
            }
            0x94 => self.put(self.memo.len()),
            b'g' | b'h' | b'j' => {
                let index = self.number()?;
                self.recall(index)
            }
            opcode => Err(Error::Opcode { opcode, position: self.position }),
        }
    }

    fn needs(&self, needed: &'static str) -> Error {
        Error::Operand { opcode: self.opcode, position: self.position, needed }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.budget.push(&mut self.stack, value)
    }

    /// The height of the last mark; what lies below must not be popped.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |&mark| mark as usize)
    }

    fn pop(&mut self) -> Result<Value> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn top(&self) -> Result<Value> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(self.needs("a value on the stack")),
        }
    }

    /// The stack's height without its top `count` values.
    fn below_top(&self, count: usize) -> Result<usize> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        start.ok_or_else(|| self.needs("more values on the stack"))
    }

    fn mark(&mut self) -> Result<usize> {
        self.marks.pop().map(|mark| mark as usize).ok_or_else(|| self.needs("a mark on the stack"))
    }

    /// The length or memo index that follows the opcode: a line of text, or an integer of 1, 8 or 4 bytes.
    fn number(&mut self) -> Result<usize> {
        match self.opcode {
            b'p' | b'g' => {
                let line = self.line()?;
                let number = self.out.text(line).and_then(|text| text.parse().ok());
                number.ok_or_else(|| self.needs("a memo index"))
            }
            0x8a | 0x8c | b'U' | b'C' | b'q' | b'h' => self.cursor.u8("a length").map(usize::from),
            0x8d | 0x8e | 0x96 => {
                self.cursor.u64("a length").map(|length| usize::try_from(length).unwrap_or(usize::MAX))
            }
            _ => self.cursor.u32("a length").map(|length| length as usize),
        }
    }

    /// A new span of the next `length` bytes.
    fn span(&mut self, length: usize, what: &'static str) -> Result<u32> {
        let span = Span::new(self.cursor.take(length, what)?);
        let index = self.out.spans.len() as u32;
        self.budget.push(&mut self.out.spans, span)?;
        Ok(index)
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let index = self.checked_text(length)?;
        self.push(Value::Text(index))
    }

    fn checked_text(&mut self, length: usize) -> Result<u32> {
        let index = self.span(length, "a string")?;
        match self.out.text(index) {
            Some(_) => Ok(index),
            None => Err(Error::Text { position: self.position }),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<()> {
        let index = self.span(length, "bytes")?;
        self.push(Value::Bytes(index))
    }

    /// A little-endian two's-complement integer of `length` bytes.
    fn long(&mut self, length: usize) -> Result<()> {
        if length > 8 {
            let index = self.span(length, "an integer")?;
            return self.push(Value::Big(index));
        }
        let bytes = self.cursor.take(length, "an integer")?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..length].copy_from_slice(bytes);
        self.integer(i64::from_le_bytes(whole))
    }

    fn integer(&mut self, value: i64) -> Result<()> {
        match i32::try_from(value) {
            Ok(value) => self.push(Value::Int(value)),
            Err(_) => {
                let index = self.out.wide.len() as u32;
                self.budget.push(&mut self.out.wide, value)?;
                self.push(Value::Wide(index))
            }
        }
    }

    fn float(&mut self, value: f64) -> Result<()> {
        let index = self.out.floats.len() as u32;
        self.budget.push(&mut self.out.floats, value)?;
        self.push(Value::Float(index))
    }

    /// An integer's digits, with Python 2's trailing `L`; protocol 0 writes bools as `00` and `01`.
    fn decimal(&mut self) -> Result<()> {
        let line = self.line()?;
        let text = self.out.text(line).unwrap_or_default();
        match (self.opcode, text) {
            (b'I', "00") => return self.push(Value::Bool(false)),
            (b'I', "01") => return self.push(Value::Bool(true)),
            _ => {}
        }
        let digits = text.strip_suffix('L').unwrap_or(text);
        if let Ok(value) = digits.parse() {
            return self.integer(value);
        }
        let unsigned = digits.strip_prefix('-').unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.needs("an integer's digits"));
        }
        self.out.spans[line as usize] = Span::Ascii(digits);
        self.push(Value::Decimal(line))
    }

    /// A string up to the end of the line: `S` quoted as by Python's `repr`, `V` unquoted.
    fn quoted(&mut self) -> Result<()> {
        let line = self.line()?;
        let text = self.out.text(line).unwrap_or_default();
        let inner = match (self.opcode, text.as_bytes()) {
            (b'V', _) => text,
            (_, [b'\'', .., b'\''] | [b'"', .., b'"']) if text.len() > 1 => &text[1..text.len() - 1],
            _ => return Err(self.needs("a quoted string")),
        };
        if text.contains('\\') {
            return self.push(Value::Escaped);
        }
        self.out.spans[line as usize] = Span::new(inner.as_bytes());
        self.push(Value::Text(line))
    }

    fn sequence(&mut self) -> Result<u32> {
        let index = self.out.sequences.len() as u32;
        self.budget.push(&mut self.out.sequences, Vec::new())?;
        Ok(index)
    }

    /// A new sequence of the stack's values from `start` on.
    fn sequence_from(&mut self, start: usize) -> Result<u32> {
        let index = self.sequence()?;
        self.move_into(index, start)?;
        Ok(index)
    }

    fn move_into(&mut self, sequence: u32, start: usize) -> Result<()> {
        let to = &mut self.out.sequences[sequence as usize];
        self.budget.reserve(to, self.stack.len() - start)?;
        to.extend(self.stack.drain(start..));
        Ok(())
    }

    fn append(&mut self, start: usize) -> Result<()> {
        match start.checked_sub(1).filter(|_| start > self.floor()).map(|at| self.stack[at]) {
            Some(Value::List(index) | Value::Set(index)) => self.move_into(index, start),
            // A list-like object (`collections.deque`), whose items nothing reads.
            Some(Value::Object(_)) => {
                self.stack.truncate(start);
                Ok(())
            }
            _ => Err(self.needs("a list")),
        }
    }

    fn set_items(&mut self, start: usize) -> Result<()> {
        if (self.stack.len() - start) % 2 == 1 {
            return Err(self.needs("a value for each key"));
        }
        match start.checked_sub(1).filter(|_| start > self.floor()).map(|at| self.stack[at]) {
            Some(Value::Dict(index)) => self.move_into(index, start),
            Some(Value::Object(object)) => {
                let mut entries = self.out.objects[object as usize].entries;
                if entries == EMPTY {
                    entries = self.sequence()?;
                    self.out.objects[object as usize].entries = entries;
                }
                self.move_into(entries, start)
            }
            _ => Err(self.needs("a dict")),
        }
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<u32> {
        let rest = &self.cursor.bytes[self.cursor.at..];
        let (position, left) = (self.cursor.at, rest.len());
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or(Error::Truncated { what: "a name", position, needed: left + 1, left })?;
        let index = self.checked_text(length)?;
        self.cursor.at += 1;
        Ok(index)
    }

    fn global(&mut self, module: u32, name: u32) -> Result<Value> {
        let index = self.out.globals.len() as u32;
        self.budget.push(&mut self.out.globals, (module, name))?;
        Ok(Value::Global(index))
    }

    fn call(&mut self) -> Result<()> {
        match (self.pop()?, self.pop()?) {
            (arguments @ Value::Tuple(_), function) => self.object(function, arguments),
            _ => Err(self.needs("a function and a tuple")),
        }
    }

    /// Records a call.
    fn object(&mut self, function: Value, arguments: Value) -> Result<()> {
        let index = self.out.objects.len() as u32;
        let object = Object { function, arguments, state: Value::None, entries: EMPTY };
        self.budget.push(&mut self.out.objects, object)?;
        self.push(Value::Object(index))
    }

    fn put(&mut self, index: usize) -> Result<()> {
        let value = self.top()?;
        // Python memoizes one value at a time, so an index beyond the bytes read so far is bogus.
        if index > self.position {
            return Err(self.needs("the next memo index"));
        }
        if index >= self.memo.len() {
            let more = index - self.memo.len() + 1;
            self.budget.reserve(&mut self.memo, more)?;
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(value);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        match self.memo.get(index) {
            Some(&Some(value)) => self.push(value),
            _ => Err(self.needs("a memoized value")),
        }
    }
}
