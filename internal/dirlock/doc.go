// Package dirlock keeps two processes from writing to one folder.
package dirlock
