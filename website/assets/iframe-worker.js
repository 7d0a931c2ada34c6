// A browser starts no worker from a file on the disk. For pages that are opened so, a hidden frame
// runs the search instead. (Zensical fetches a script of this name from a CDN where there is none.)
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<body></body>";
      this.ready = new Promise((resolve) => {
        this.frame.onload = () => {
          const inside = this.frame.contentWindow;
          inside.postMessage = (data) => {
            const copy = structuredClone(data);
            setTimeout(() => this.onmessage?.({ data: copy }));
          };
          const script = inside.document.createElement("script");
          script.src = new URL(url, location.href).href;
          script.onload = () => resolve(inside);
          inside.document.body.append(script);
        };
      });
      document.body.append(this.frame);
    }

    postMessage(data) {
      const copy = structuredClone(data); // as a worker gets it
      this.ready.then((inside) => inside.onmessage?.({ data: copy }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
