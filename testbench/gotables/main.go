// Writes crates/repository/src/printable.rs: the code points that Go's strconv.IsPrint accepts.
//
//	go run testbench/gotables/main.go > crates/repository/src/printable.rs
package main

import (
	"fmt"
	"strconv"
	"unicode"
)

func main() {
	fmt.Println("//! The code points that Go's `strconv.IsPrint` accepts, as ascending inclusive ranges.")
	fmt.Println("//!")
	fmt.Printf("//! Unicode %s. Written by `testbench/gotables/main.go`; do not edit.\n\n", unicode.Version)
	fmt.Println("#[rustfmt::skip]")
	fmt.Print("pub(crate) const PRINTABLE: &[(u32, u32)] = &[")
	const perLine = 5
	start, count := rune(-1), 0
	for c := rune(0); c <= unicode.MaxRune+1; c++ {
		printable := c <= unicode.MaxRune && strconv.IsPrint(c)
		if printable && start < 0 {
			start = c
		}
		if !printable && start >= 0 {
			separator := " "
			if count%perLine == 0 {
				separator = "\n    "
			}
			fmt.Printf("%s(%#x, %#x),", separator, start, c-1)
			start, count = -1, count+1
		}
	}
	fmt.Println("\n];")
}
