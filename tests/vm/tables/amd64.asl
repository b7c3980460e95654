// Three C-states for the two CPUs of QEMU's q35, whose own tables have none. All are of type 1, entered by HLT, with
// latencies of their own: a deeper type would name an I/O port that nobody answers, and a guest that "rests" by
// reading it takes a whole CPU of the host.
DefinitionBlock ("", "SSDT", 2, "SPARKT", "CSTATES", 1)
{
    External (\_SB.CPUS.C000, DeviceObj)
    External (\_SB.CPUS.C001, DeviceObj)

    Scope (\_SB)
    {
        Name (SPCS, Package () {
            3,
            Package () { ResourceTemplate () { Register (FFixedHW, 0, 0, 0) }, 1, 1, 1000 },
            Package () { ResourceTemplate () { Register (FFixedHW, 0, 0, 0) }, 1, 50, 500 },
            Package () { ResourceTemplate () { Register (FFixedHW, 0, 0, 0) }, 1, 400, 100 }
        })
    }
    Scope (\_SB.CPUS.C000) { Method (_CST, 0, NotSerialized) { Return (\_SB.SPCS) } }
    Scope (\_SB.CPUS.C001) { Method (_CST, 0, NotSerialized) { Return (\_SB.SPCS) } }
}
