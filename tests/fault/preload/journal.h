// The undo journal as it lies on disk; mirrored in src/journal.rs. Native byte order and alignment: it is
// read on the machine that wrote it.

#include <limits.h>
#include <stdint.h>

#define DATA_MAGIC 0x31415441445f5346ull
#define NAME_MAGIC 0x31454d414e5f5346ull

struct data_header {
    uint64_t magic;
    uint64_t base_len; // length of the file when the generation began
};

enum data_kind { DATA_WRITE = 1, DATA_TRUNCATE = 2 };

// Followed by `saved` old bytes, unless `zero` says that they were all zero.
struct data_record {
    uint32_t kind;
    uint32_t zero;
    uint64_t offset; // of the old bytes
    uint64_t saved;
    uint64_t end; // of the write, or the new length
};

enum name_kind { NAME_CREATE = 1, NAME_MKDIR, NAME_REMOVE, NAME_RENAME, NAME_SYNCED };

struct name_record {
    uint64_t magic;
    uint64_t kind;
    uint64_t seq; // NAME_SYNCED: operations in folder dir1 up to this one are durable
    uint64_t dir1;
    uint64_t dir2;   // NAME_RENAME: the folder of the new name
    uint64_t inode;  // NAME_RENAME: what is renamed
    uint64_t target; // NAME_RENAME: 1 if kept/<seq> is what the new name stood for
    char name1[NAME_MAX + 1];
    char name2[NAME_MAX + 1];
};
