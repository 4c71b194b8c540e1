//! The real `clinigate`, run in the gateway's namespace.
