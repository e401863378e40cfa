// Package atomicfile writes files that are either the old one or the new one, whole, whenever the program or the
// machine stops.
//
// [Write] writes to a temporary file in the same folder (".NAME.tmp-..."), flushes it to the disk, renames it over the
// target and flushes the folder, where the operating system can do that (not Windows, WebAssembly and Plan 9). On
// failure it removes the temporary file and leaves the target as it was; a killed program may leave the temporary file.
//
// Errors are one line: what failed, on which path, and what to do about it, see [Explain].
package atomicfile
