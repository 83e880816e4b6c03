//! Memory of one memtable.
