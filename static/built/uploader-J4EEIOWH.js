/* Loadbay, Apache-2.0 */
import{a as e,b as g}from"./chunk-F37KHUB5.js";import{N as f,e as a,f as b,g as c,k as d}from"./chunk-AZFK3OFW.js";export{g as LoadbayUploader,c as direction,a as language,b as locale,f as percent,e as readableAccents,d as t};
