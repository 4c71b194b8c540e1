//! A hospital in network namespaces, and what talks through it.
