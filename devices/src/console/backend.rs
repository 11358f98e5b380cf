//! What the console needs of whatever it is connected to.

/// Carries bytes away from and towards one console, in order, and never blocks.
pub trait ConsoleBackend {
    /// A driver is there, or there is none any more: until there is, the back end wakes nobody.
    fn attach(&mut self, driver: bool);

    /// Takes the first bytes of `bytes`, as many as there is room for, and returns how many. If it did not
    /// take all, it has itself woken when there is room.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Puts the bytes that wait for the guest at the start of `room`, and returns how many; 0 if none wait.
    fn read(&mut self, room: &mut [u8]) -> usize;

    /// Whether the guest has buffers for input. While it has, input that waits wakes whoever waits for the
    /// back end; while it has none, it wakes nobody.
    fn want_input(&mut self, wanted: bool);

    /// Why it cannot be taken away from its console and another be put in its place, as what follows "the
    /// device": for instance, somebody is connected.
    fn busy(&mut self) -> Option<&'static str>;

    /// Counters by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

impl<B: ConsoleBackend + ?Sized> ConsoleBackend for Box<B> {
    fn attach(&mut self, driver: bool) {
        (**self).attach(driver);
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        (**self).write(bytes)
    }

    fn read(&mut self, room: &mut [u8]) -> usize {
        (**self).read(room)
    }

    fn want_input(&mut self, wanted: bool) {
        (**self).want_input(wanted);
    }

    fn busy(&mut self) -> Option<&'static str> {
        (**self).busy()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        (**self).counters()
    }
}
