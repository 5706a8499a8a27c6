/* Loadbay, Apache-2.0 */
import{H as f,V as g,e as a,f as b,g as c,h as d,t as e}from"./chunk-URQ4AZJM.js";export{g as LoadbayUploader,c as direction,a as language,b as locale,f as percent,e as readableAccents,d as t};
