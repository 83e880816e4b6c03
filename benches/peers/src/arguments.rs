//! Options of the form `--name value`, read one after another.

use crate::Result;

/// The words of a command line that are not read yet.
pub struct Arguments<'a> {
    rest: std::slice::Iter<'a, &'a str>,
    last: &'a str,
    usage: &'static str,
}

impl<'a> Arguments<'a> {
    /// Begins to read `words`; `usage` is what an error shows.
    pub fn new(words: &'a [&'a str], usage: &'static str) -> Arguments<'a> {
        Arguments { rest: words.iter(), last: "", usage }
    }

    /// Returns the next option's name.
    pub fn next(&mut self) -> Option<&'a str> {
        self.last = self.rest.next()?;
        Some(self.last)
    }

    /// Returns the value of the option whose name was read last.
    pub fn value(&mut self) -> Result<&'a str> {
        self.rest.next().copied().ok_or_else(|| self.wrong())
    }

    /// Returns the value as a number.
    pub fn number(&mut self) -> Result<u64> {
        self.value()?.parse().map_err(|_| self.wrong())
    }

    /// Returns the parts of the value between commas.
    pub fn list<T>(&mut self, parse: impl FnMut(&str) -> Option<T>) -> Result<Vec<T>> {
        self.value()?.split(',').map(parse).collect::<Option<_>>().ok_or_else(|| self.wrong())
    }

    /// Returns the error that the option whose name was read last is not understood.
    pub fn wrong(&self) -> String {
        format!("{} is not understood; usage:\n{}", self.last, self.usage)
    }
}
