//! What a notebook imports.
