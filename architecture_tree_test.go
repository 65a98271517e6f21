package rollbook_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// tree is a module as the rules see it.
type tree struct {
	fset   *token.FileSet
	source []source          // the Go files outside testdata, by path
	texts  map[string]string // every text file, Go or not, by slash-separated path
}

// source is one Go file.
type source struct {
	path, dir string
	syntax    *ast.File
}

// read takes in every text file below the root of fsys. A file that does not parse is an error: it has no shape.
func read(fsys fs.FS) (tree, error) {
	house := tree{fset: token.NewFileSet(), texts: map[string]string{}}
	skipped := map[string]bool{".git": true}
	ignore, err := fs.ReadFile(fsys, ".gitignore")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return tree{}, err
	}
	for line := range strings.Lines(string(ignore)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "/") {
			skipped[strings.Trim(line, "/")] = true
		}
	}
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since it was listed: another package's test cleaned up
			return nil
		case err != nil:
			return err
		case skipped[name] && entry.IsDir():
			return fs.SkipDir
		case skipped[name] || !entry.Type().IsRegular():
			return nil
		}
		return house.add(fsys, name)
	})
	return house, err
}

func (house *tree) add(fsys fs.FS, name string) error {
	raw, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) || bytes.IndexByte(raw[:min(len(raw), 8000)], 0) >= 0 {
		return nil // gone again, or no text
	}
	if err != nil {
		return err
	}
	house.texts[name] = string(raw)
	if !strings.HasSuffix(name, ".go") || strings.Contains("/"+name, "/testdata/") {
		return nil
	}
	syntax, err := parser.ParseFile(house.fset, name, raw, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	house.source = append(house.source, source{path: name, dir: path.Dir(name), syntax: syntax})
	return nil
}

// product lists the files that reach the binary: neither tests nor test kits. A kit is a package whose name ends in
// "test", such as bus/bustest; it may import what a test may, and the import table lets no product code import it.
func (house tree) product() []source {
	return slices.DeleteFunc(slices.Clone(house.source), func(file source) bool {
		return file.isTest() || kit(file.dir)
	})
}

func (file source) isTest() bool { return strings.HasSuffix(file.path, "_test.go") }

func kit(dir string) bool { return strings.HasSuffix(dir, "test") }

// version is the last part of an import path that is not in the package's name.
var version = regexp.MustCompile(`/v[0-9]+$`)

// imports gives each import path of the file and the name it goes by inside: "." and "_" as written.
func (file source) imports() map[string]string {
	named := map[string]string{}
	for _, spec := range file.syntax.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused such a file
		}
		named[target] = path.Base(version.ReplaceAllString(target, ""))
		if spec.Name != nil {
			named[target] = spec.Name.Name
		}
	}
	return named
}

// uses lists the places below node where a name of the package imported as local is used.
func uses(node ast.Node, local string) []*ast.SelectorExpr {
	var found []*ast.SelectorExpr
	ast.Inspect(node, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == local {
				found = append(found, selector)
			}
		}
		return true
	})
	return found
}

// at names a place in the tree for a sentence: file and line.
func (house tree) at(node ast.Node) string {
	where := house.fset.Position(node.Pos())
	return fmt.Sprintf("%s:%d", where.Filename, where.Line)
}
