//! stub
use crate::bus::*;
/// x
pub struct EmbeddedBus;
impl EmbeddedBus {
    /// x
    pub async fn open(_d: crate::sqlite::Database, _o: Options) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self))
    }
    /// x
    pub async fn close(&self) {}
}
#[async_trait]
impl Bus for EmbeddedBus {
    async fn declare(&self, _queue: QueueSpec) -> Result<(), Error> {
        Ok(())
    }
    async fn publish(&self, _event: Arc<Event>, _routing: Routing) -> Result<usize, Error> {
        Ok(0)
    }
    async fn send(&self, _queue: &str, _event: Arc<Event>) -> Result<(), Error> {
        Ok(())
    }
    async fn consume(&self, queue: &str, _prefetch: usize) -> Result<Consumer, Error> {
        Err(Error::NoQueue(queue.into()))
    }
    async fn bury(&self, _letter: DeadLetter) -> Result<(), Error> {
        Ok(())
    }
    async fn dead_letters(&self, _limit: usize, _before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        Ok(vec![])
    }
    async fn dead_letter(&self, _id: &str) -> Result<Option<DeadLetter>, Error> {
        Ok(None)
    }
    async fn replay(&self, _id: &str) -> Result<Option<Event>, Error> {
        Ok(None)
    }
    async fn purge(&self, _id: &str) -> Result<bool, Error> {
        Ok(false)
    }
    async fn health(&self) -> Result<Health, Error> {
        Ok(Health::default())
    }
}
