//! The counters of an account by name, as ledger, control socket and metrics have them. The list is the account
//! page's: a counter that is added there appears everywhere.

use paravane_backend::account::COUNTERS;
use rusqlite::types::Value;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const COUNT: usize = COUNTERS.len();

/// Their names, in the account's order.
pub const COLUMNS: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut at = 0;
    while at < COUNT {
        names[at] = COUNTERS[at].1;
        at += 1;
    }
    names
};

/// One value for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub [u64; COUNT]);

impl Counters {
    /// What an account page holds.
    pub fn of_account(values: [u64; COUNT]) -> Self {
        Self(values)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COLUMNS.into_iter().zip(self.0)
    }

    /// The value of one; 0 for a name that is none.
    pub fn get(&self, name: &str) -> u64 {
        self.iter().find(|(column, _)| *column == name).map_or(0, |(_, value)| value)
    }

    /// Sets one, if there is one of that name.
    pub fn set(&mut self, name: &str, value: u64) {
        if let Some((slot, _)) = self.0.iter_mut().zip(COLUMNS).find(|(_, column)| *column == name) {
            *slot = value;
        }
    }

    fn zip(&self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut result = *self;
        result.0.iter_mut().zip(other.0).for_each(|(value, other)| *value = each(*value, other));
        result
    }

    /// The greater of each.
    pub fn max(&self, other: &Self) -> Self {
        self.zip(other, u64::max)
    }

    /// What has come since.
    pub fn since(&self, before: &Self) -> Self {
        self.zip(before, u64::saturating_sub)
    }

    /// The sum of each.
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// Whether there is nothing.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|value| *value == 0)
    }

    pub(crate) fn sql(&self) -> impl Iterator<Item = Value> {
        self.0.into_iter().map(|value| to_sql(value).into())
    }

    pub(crate) fn of_row(row: &rusqlite::Row, first: usize) -> rusqlite::Result<Self> {
        let mut counters = Self::default();
        for (at, value) in (first..).zip(&mut counters.0) {
            *value = from_sql(row.get(at)?);
        }
        Ok(counters)
    }
}

/// SQLite's integers have a sign; what does not fit is more than any account reaches.
pub(crate) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(COUNT))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Counters;

            fn expecting(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
                to.write_str("counters by name")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Counters, M::Error> {
                let mut counters = Counters::default();
                while let Some(name) = map.next_key::<String>()? {
                    // Another release may have more of them, and of other kinds.
                    if COLUMNS.contains(&name.as_str()) {
                        counters.set(&name, map.next_value()?);
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                Ok(counters)
            }
        }
        from.deserialize_map(Named)
    }
}
