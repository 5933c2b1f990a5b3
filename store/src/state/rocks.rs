//! RocksDB, kept small: one budget for all column families of a member's two databases.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Env, Options, SliceTransform, WriteBufferManager};

use super::keys;

/// Bits that a filter has for each key: one look in a hundred is in vain.
const FILTER_BITS: f64 = 10.0;
/// Part of a write buffer that its filter takes.
const MEMTABLE_FILTER_PART: f64 = 0.05;

/// Memory that all of a member's RocksDB may use together.
pub struct Budget {
    cache: Cache,
    buffers: WriteBufferManager,
    buffer_bytes: usize,
    env: Option<Env>,
}

impl Budget {
    /// Splits a number of bytes into a cache and write buffers. The buffers are charged to the
    /// cache, so that both stay below the sum.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        let env = Env::new().ok().map(|mut env| {
            env.set_background_threads(1);
            env.set_high_priority_background_threads(1);
            env
        });
        Self { cache, buffers, buffer_bytes: bytes / 8, env }
    }

    /// Options of a database.
    #[must_use]
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_write_buffer_manager(&self.buffers);
        if let Some(env) = &self.env {
            options.set_env(env);
        }
        options.set_max_background_jobs(2);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_log_level(rocksdb::LogLevel::Warn);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        self.column(&mut options);
        options
    }

    /// Options of a column family.
    #[must_use]
    pub fn column_options(&self) -> Options {
        let mut options = Options::default();
        self.column(&mut options);
        options
    }

    /// Options of the column family that holds versions of keys. Filters tell where no version of a key is: every write asks for
    /// the newest one, and most tables and buffers have none.
    #[must_use]
    pub fn versions_options(&self) -> Options {
        let mut options = Options::default();
        let mut table = self.table();
        table.set_bloom_filter(FILTER_BITS, false);
        table.set_whole_key_filtering(false);
        self.sized(&mut options, &table);
        options.set_prefix_extractor(SliceTransform::create("kontiki.key", keys::of_version, Some(keys::is_version)));
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_PART);
        options
    }

    fn column(&self, options: &mut Options) {
        self.sized(options, &self.table());
    }

    fn table(&self) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(8 * 1024);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(false);
        table.set_format_version(5);
        table
    }

    fn sized(&self, options: &mut Options, table: &BlockBasedOptions) {
        options.set_block_based_table_factory(table);
        options.set_write_buffer_size(self.buffer_bytes);
        options.set_max_write_buffer_number(3);
        // The default arena block is an eighth of the buffer, for every column family.
        options.set_arena_block_size(64 * 1024);
        options.set_target_file_size_base(8 << 20);
        options.set_compression_type(DBCompressionType::Lz4);
    }
}

/// Bytes of the files in a directory; what vanishes meanwhile counts nothing.
#[must_use]
pub fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}
