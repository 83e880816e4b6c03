//! Each test pins one behaviour of the disk.
