//! What the log's facade does not offer yet.

use crate::SimEnv;
use aidb::aof::*;
pub(super) trait Later: Sized {
    fn seal(&self) -> aidb::Result<Lsn> {
        Ok(Lsn(0))
    }
    fn segments(&self) -> Vec<Entry> {
        Vec::new()
    }
    fn flush_metrics(&self) {}
    fn performance_metrics(&self) {}
    fn prometheus(&self) -> String {
        String::new()
    }
    fn verify(&self) -> aidb::Result<Report> {
        Ok(Report { faults: Vec::new() })
    }
    fn open_read_only(_env: SimEnv, _dir: &str, _config: AofConfig) -> aidb::Result<Aof<SimEnv>> {
        Err(AofError::WouldBlock.into())
    }
}
pub(super) struct Entry {
    pub(super) base_id: u64,
    pub(super) next_id: u64,
}
pub(super) struct Fault {
    pub(super) file: std::path::PathBuf,
    pub(super) offset: u64,
    pub(super) what: String,
}
pub(super) struct Report {
    pub(super) faults: Vec<Fault>,
}
impl Later for Aof<SimEnv> {}
