// LPI-0 … LPI-3 for the two CPUs of QEMU's virt machine, with the latencies of a GB10 in µs. The kernel uses _LPI
// only where the platform's _OSC grants it, and QEMU's own tables have no _OSC. Each state is entered by a PSCI call
// with the given parameter (0xFFFFFFFF is WFI); QEMU takes all of them for a standby and wakes at once when it is to.
DefinitionBlock ("", "SSDT", 2, "SPARKT", "LPI", 1)
{
    External (\_SB.C000, DeviceObj)
    External (\_SB.C001, DeviceObj)

    Scope (\_SB)
    {
        Method (_OSC, 4, NotSerialized) { Return (Arg3) }

        // Residency, latency, enabled, flags, context, residency counter's rate, parent; how; two counters; name.
        Name (SPLP, Package () {
            0, 0, 4,
            Package () { 0, 0, 1, 0, 0, 0,
                ResourceTemplate () { Register (FFixedHW, 0x20, 0, 0xFFFFFFFF, 3) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) }, "WFI" },
            Package () { 100, 42, 1, 0, 0, 0,
                ResourceTemplate () { Register (FFixedHW, 0x20, 0, 0x1, 3) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) }, "retention" },
            Package () { 500, 231, 1, 0, 0, 0,
                ResourceTemplate () { Register (FFixedHW, 0x20, 0, 0x2, 3) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) }, "core off" },
            Package () { 1500, 433, 1, 0, 0, 0,
                ResourceTemplate () { Register (FFixedHW, 0x20, 0, 0x3, 3) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) },
                ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) }, "cluster off" }
        })
    }
    Scope (\_SB.C000) { Method (_LPI, 0, NotSerialized) { Return (\_SB.SPLP) } }
    Scope (\_SB.C001) { Method (_LPI, 0, NotSerialized) { Return (\_SB.SPLP) } }
}
