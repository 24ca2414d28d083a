// Package lint holds the house rules as tests: which package may import which, package comments, formatting, and words
// that have no place in the tree.
package lint
