package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"setun/internal/atomicfile"
)

// readConfig sets the flags that the JSON object in path names and the command line does not.
func readConfig(f *flag.FlagSet, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return atomicfile.Explain("read", path, err)
	}
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return fmt.Errorf("-config: %s is not a JSON object of flags: %w", path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("-config: %s has something after its JSON object", path)
	}
	given := map[string]bool{"config": true}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == "config" {
			return fmt.Errorf("-config: %s has \"config\", which belongs on the command line", path)
		}
		if f.Lookup(name) == nil {
			return fmt.Errorf("-config: %s has %q, which is no flag%s; see -help", path, name, suggestion(f, name))
		}
		switch values[name].(type) {
		case string, bool, json.Number:
		default:
			return fmt.Errorf("-config: %s: %q is %v; want a text, a number, true or false", path, name, values[name])
		}
		if given[name] {
			continue
		}
		if err := f.Set(name, fmt.Sprint(values[name])); err != nil {
			return fmt.Errorf("-config: %s: %q is %v: %w; see -help", path, name, values[name], err)
		}
	}
	return nil
}

// suggestion names the flag that is nearest to name, if one is near.
func suggestion(f *flag.FlagSet, name string) string {
	best, least := "", 3
	f.VisitAll(func(g *flag.Flag) {
		if n := edits(name, g.Name); n < least && n < len(name) {
			best, least = g.Name, n
		}
	})
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits is the number of letters to change, add or leave out to make b of a (Levenshtein).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
