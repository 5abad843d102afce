//! Piecewise tests.
