//! Why the shop says no, apart from what goes wrong with a store.

use std::fmt;

/// What a command may end with.
pub type Result<T> = std::result::Result<T, Error>;

/// The shop refused, or tailfold failed.
#[derive(Debug)]
pub enum Error {
    /// A rule of the shop: trying again changes nothing.
    Refused(Refusal),
    /// The store, or something that is stored.
    Failed(tailfold::Error),
}

/// A rule of the shop that a command would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else has that username.
    NameTaken(String),
    /// A username is 1..=30 small letters, digits and hyphens.
    BadName(String),
    /// Nobody is registered under that id.
    UnknownCustomer,
    /// The product is in the shop already.
    AlreadyListed,
    /// There is no such product.
    NotListed,
    /// That many would be nothing.
    NoQuantity,
    /// Fewer are left than were asked for.
    OutOfStock {
        /// How many are left.
        left: i64,
    },
    /// There is no such order.
    UnknownOrder,
    /// It is paid: nothing more can be done with it.
    AlreadyPaid,
    /// It was cancelled: nothing more can be done with it.
    AlreadyCancelled,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken(name) => write!(f, "the name `{name}` is taken"),
            Self::BadName(name) => {
                write!(f, "{name:?} is no name: 1 to 30 small letters, digits and hyphens")
            }
            Self::UnknownCustomer => f.write_str("nobody is registered under that id"),
            Self::AlreadyListed => f.write_str("the product is listed already"),
            Self::NotListed => f.write_str("there is no such product"),
            Self::NoQuantity => f.write_str("a quantity is at least 1"),
            Self::OutOfStock { left } => write!(f, "only {left} left"),
            Self::UnknownOrder => f.write_str("there is no such order"),
            Self::AlreadyPaid => f.write_str("the order is paid"),
            Self::AlreadyCancelled => f.write_str("the order was cancelled"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

/// No source: the text tells the causes, as that of a [`tailfold::Error`] does.
impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<tailfold::Error> for Error {
    fn from(error: tailfold::Error) -> Self {
        Self::Failed(error)
    }
}
