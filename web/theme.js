// Light, dark, or as the system says. A classic script: it runs before the first paint.
(function () {
    "use strict";
    var KEY = "chamberlain.theme";
    var MODES = ["system", "light", "dark"];

    function read() {
        try {
            return MODES.indexOf(localStorage.getItem(KEY)) > 0 ? localStorage.getItem(KEY) : "system";
        } catch (denied) {
            return "system";
        }
    }

    function apply(mode) {
        if (mode === "system") delete document.documentElement.dataset.theme;
        else document.documentElement.dataset.theme = mode;
    }

    window.chamberlainTheme = {
        get: read,
        next: function () {
            var mode = MODES[(MODES.indexOf(read()) + 1) % MODES.length];
            try {
                localStorage.setItem(KEY, mode);
            } catch (denied) {
                // Private windows may refuse: the choice then lasts as long as the page.
            }
            apply(mode);
            return mode;
        },
    };
    apply(read());
})();
